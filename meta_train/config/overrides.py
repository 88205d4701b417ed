"""Changes to a config given as text: key=value, with dots for what lies inside."""

import copy
from collections.abc import Sequence
from typing import Any

from meta_train import yaml_subset
from meta_train.config.errors import ConfigError, Path, Problem, dotted


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
                raise yaml_subset.YamlError("must be key=value, such as tasks.0.weight=2")
            _set(data, path, yaml_subset.parse(value))
        except yaml_subset.YamlError as error:
            errors.append(ConfigError(source, [Problem((), str(error))]))
        origin[path] = source
    if errors:
        raise ConfigError.join(errors)
    return data, origin


def _set(data: Any, path: Path, value: Any) -> None:
    for depth, part in enumerate(path[:-1]):
        where = dotted(path[: depth + 1])
        index = _index(data, part, where)
        if isinstance(data, dict) and data.get(index) is None:
            data[index] = {}
        data = data[index]
        if not isinstance(data, dict | list):
            raise yaml_subset.YamlError(f"{where} is {data!r}, it has no keys")
    data[_index(data, path[-1], dotted(path))] = value


def _index(data: Any, part: str | int, where: str) -> Any:
    """The key or number that `part` stands for inside `data`."""
    if isinstance(data, dict):
        return str(part)
    if isinstance(part, int) and part < len(data):
        return part
    raise yaml_subset.YamlError(f"{where}: no such entry; the list has {len(data)}, counted from 0")
