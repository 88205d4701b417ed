"""From a YAML file and overrides to a checked config, and back."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from learned_opt.locate import packaged
from learned_opt.spec import translated
from meta_train import yaml_subset
from meta_train.config.errors import ConfigError, Problem, explain
from meta_train.config.model import DEFAULTS, Config, Phase, Weighted, families
from meta_train.config.overrides import apply
from meta_train.config.ppo import check_buckets, check_ppo, is_ppo
from meta_train.config.schema import Described, Model, with_preset
from tasks.names import check_label

CHANGEABLE = (  # when a run is resumed
    "steps", "give_up_after", "log_every", "evaluation", "checkpoint", "wandb", "parallel",
)  # fmt: skip
NO_HORIZON = Problem(("horizon",), "missing")


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The config in a YAML file, changed by overrides such as "tasks.1.dim=4".

    Nothing is executed and JAX is not started. Raises ConfigError with every problem found.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(str(path), [Problem((), "not a text file in UTF-8")]) from None
    except OSError as error:
        raise ConfigError(str(path), [Problem((), str(error.strerror))]) from None
    return parse(text, str(path), overrides)


def parse(text: str, source: str = "config", overrides: Sequence[str] = ()) -> Config:
    """As `load`, from text; `source` names it in messages."""
    try:
        data = yaml_subset.parse(text)
    except yaml_subset.YamlError as error:
        raise ConfigError(source, [Problem((), str(error))]) from None
    if not isinstance(data, dict):
        raise ConfigError(source, [Problem((), "must be a mapping of keys to values")])
    data, origin = apply({**DEFAULTS, **data}, overrides)
    data = _with_whole_phases(data)
    if "optimizer" in data:
        annotation = Config.model_fields["optimizer"].annotation
        data["optimizer"] = with_preset(_translated(data["optimizer"]), annotation)
    try:
        # Through JSON, strict validation takes lists for tuples and still refuses "5" for 5.
        config = Config.model_validate_json(json.dumps(data))
    except ValidationError as error:
        problems = explain(error, data, Config)
        if data.get("horizon") is None and "estimator" not in data:
            problems = sorted([*problems, NO_HORIZON])
        raise ConfigError(source, problems, origin) from None
    problems = list(_check(config))
    if problems:
        raise ConfigError(source, problems, origin)
    return _absolute(config)


def _translated(optimizer: Any) -> Any:
    """The block with the choices of an older version in the words of this one."""
    if not isinstance(optimizer, dict):
        return optimizer
    return translated(str(optimizer.get("kind")), optimizer)


def _with_whole_phases(data: dict[str, Any]) -> dict[str, Any]:
    """The data with the keys that blocks of its phases leave out."""
    if not isinstance(phases := data.get("phases"), list):
        return data
    current, whole = data, []
    for phase in phases:
        if isinstance(phase, dict):
            phase = {name: _whole(block, current.get(name)) for name, block in phase.items()}
            current = {**current, **{k: block for k, block in phase.items() if block is not None}}
        whole.append(phase)
    return {**data, "phases": whole}


def _whole(block: Any, before: Any) -> Any:
    """The block with what it leaves out as it was before, if that was of the same kind."""
    if not (isinstance(block, dict) and isinstance(before, dict)):
        return block
    kind = before.get("kind")
    return {**before, **block} if block.get("kind", kind) == kind else block


def _absolute(config: Config) -> Config:
    """The config with paths that still hold when a run is resumed from another folder."""
    changes: dict[str, Any] = {"start_from": _path(config.start_from)}
    if isinstance(name := getattr(config.meta_optimizer, "name", None), str):
        changes["meta_optimizer"] = config.meta_optimizer.model_copy(update={"name": _path(name)})
    return config.model_copy(update=changes)


def _path(weights: str | None) -> str | None:
    """The absolute path of weights; names of packaged ones stay names."""
    if weights is None or weights in packaged():
        return weights
    return str(Path(weights).expanduser().absolute())


def _check(config: Config) -> Iterator[Problem]:
    """What no single key shows: all that can be checked without starting JAX."""
    devices = config.parallel.devices
    if config.num_tasks % devices:
        below = config.num_tasks - config.num_tasks % devices
        nearest = [str(value) for value in (below, below + devices) if value]
        yield Problem(
            ("num_tasks",),
            f"{config.num_tasks} does not divide by parallel.devices = {devices}; "
            f"nearest: {' or '.join(nearest)}",
        )
    yield from _check_builds(config, ("optimizer", "meta_optimizer", "expert", "resume"))
    yield from _check_inner(config, ())
    before = 0
    for i, phase in enumerate(config.phases):
        if phase.at <= before:
            yield Problem(("phases", i, "at"), f"{phase.at} must be above {before}, the one before")
        before = phase.at
        yield from _check_inner(phase, ("phases", i))
    yield from _check_kinds(config)


def _check_kinds(config: Config) -> Iterator[Problem]:
    """Whether PPO is asked for, in the whole run or not at all, and if so what goes with it."""
    with_ppo = is_ppo(config.estimator)
    if not with_ppo and config.horizon is None:
        yield NO_HORIZON
    for i, phase in enumerate(config.phases):
        if phase.estimator is not None and is_ppo(phase.estimator) != with_ppo:
            yield Problem(("phases", i, "estimator"), "ppo cannot take turns with another kind")
            return
    if not with_ppo:
        return
    names = _names(config.tasks)
    yield from check_ppo(config, names)
    for i, phase in enumerate(config.phases):
        names = _names(phase.tasks) if phase.tasks else names
        yield from check_buckets(phase.estimator or config.estimator, names, ("phases", i))


def _names(blocks: Sequence[Weighted]) -> list[str]:
    """The families' names; of blocks with a problem of their own none."""
    names: list[str] = []
    for block in blocks:
        with suppress(ValueError):
            names += [family.name for family in families(block)]
    return names


def _check_builds(
    holder: Model, names: Sequence[str], path: tuple[str | int, ...] = ()
) -> Iterator[Problem]:
    for name in names:
        block: Described | None = getattr(holder, name)
        if block is None:
            continue
        try:
            block.build()
        except ValueError as error:
            yield _problem((*path, name), error, block)


def _check_inner(config: "Config | Phase", path: tuple[str | int, ...]) -> Iterator[Problem]:
    """What is wrong with the blocks that a phase may change; `path`: where they are."""
    yield from _check_builds(config, ("horizon", "objective"), path)
    for i, block in enumerate(config.augmentations or ()):
        try:
            block.build()
        except ValueError as error:
            yield _problem((*path, "augmentations", i), error, block)
    seen: dict[str, int] = {}
    for i, block in enumerate(config.tasks or ()):
        place = (*path, "tasks", i)
        try:
            names = [family.name for family in families(block)]
            for name in names:
                check_label("name", name)
        except ValueError as error:
            yield _problem(place, error, block)
            continue
        for name in names:
            if name in seen:
                yield Problem(place, f"the same name, {name!r}, as tasks.{seen[name]}")
            seen[name] = i


def _problem(path: tuple[str | int, ...], error: ValueError, block: Model) -> Problem:
    """A dataclass' error, which starts with the field's name where it is about one."""
    name, colon, rest = str(error).partition(": ")
    if colon and name in type(block).model_fields:
        return Problem((*path, name), rest)
    return Problem(path, str(error))


def dump(config: Config) -> str:
    """The resolved config as YAML; `parse` gives an equal one."""
    return yaml_subset.dump(config.model_dump(mode="json"))


def differences(old: Config, new: Config) -> list[str]:
    """Paths of the keys that differ and may not when a run is resumed."""
    left, right = old.model_dump(mode="json"), new.model_dump(mode="json")
    return [
        path
        for key in left
        if key not in CHANGEABLE
        for path in _differing(left[key], right[key], key)
    ]


def _differing(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        for key in old:
            yield from _differing(old[key], new[key], f"{path}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _differing(a, b, f"{path}.{i}")
    elif old != new:
        yield path
