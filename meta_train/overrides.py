"""Changes to a config given as text: key=value, with dots for what lies inside."""

import copy
from collections.abc import Sequence
from typing import Any

from meta_train import yaml_text
from meta_train.config_errors import ConfigError, Path, Problem, dotted


def apply(data: dict[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], dict[Path, str]]:
    """`data` with the overrides applied in order, and which override each path came from.

    A missing or null block on the way is created; whether a key exists is for the schema to say.
    Raises ConfigError for what is no key=value, no value, or does not fit the file.
    """
    data = copy.deepcopy(data)
    origin: dict[Path, str] = {}
    errors: list[ConfigError] = []
    for text in overrides:
        source = f"override {text}"
        key, equals, value = text.partition("=")
        path: Path = tuple(int(p) if p.isdecimal() else p for p in key.strip().split("."))
        try:
            if not equals or "" in path:
                raise yaml_text.YamlError("must be key=value, such as tasks.0.weight=2")
            _set(data, path, yaml_text.parse(value))
        except yaml_text.YamlError as error:
            errors.append(ConfigError(source, [Problem((), str(error))]))
        origin[path] = source
    if errors:
        raise ConfigError.join(errors)
    return data, origin


def _set(data: Any, path: Path, value: Any) -> None:
    *parents, last = path
    for depth, part in enumerate(parents):
        where = dotted(path[: depth + 1])
        _check_step(data, part, where)
        if isinstance(data, dict):
            part = str(part)
            if data.get(part) is None:
                data[part] = {}
        data = data[part]
        if not isinstance(data, dict | list):
            raise yaml_text.YamlError(f"{where} is {data!r}, it has no keys")
    _check_step(data, last, dotted(path))
    data[str(last) if isinstance(data, dict) else last] = value


def _check_step(data: Any, part: str | int, where: str) -> None:
    if isinstance(data, list) and not (isinstance(part, int) and part < len(data)):
        raise yaml_text.YamlError(
            f"{where}: no such entry; the list has {len(data)}, counted from 0"
        )
