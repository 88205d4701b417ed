"""The config of a meta-training run: its keys, and how a file becomes one."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from learned_opt.locate import packaged
from learned_opt.registry import LEARNED
from learned_opt.spec import translated
from meta_train import yaml_subset
from meta_train.config.errors import ConfigError, Problem, explain
from meta_train.config.overrides import apply
from meta_train.config.ppo import PPOBlock, check_buckets, check_ppo, is_ppo
from meta_train.config.schema import Described, Model, describe, union, with_preset
from meta_train.estimators import ESTIMATORS
from meta_train.inner.continuation import Resume
from meta_train.inner.expert import Expert
from meta_train.inner.horizons import HORIZONS
from meta_train.inner.objectives import OBJECTIVES
from meta_train.learners.family_mean import FamilyScale
from meta_train.learners.meta_optimizers import META_OPTIMIZERS
from tasks.augment.registry import AUGMENTATIONS
from tasks.base import TaskFamily
from tasks.cost import Limit
from tasks.distributions.sampled import Sampled
from tasks.names import check_label
from tasks.registry import FAMILIES

AtLeastOne = Annotated[int, Field(ge=1)]
CHANGEABLE = (  # when a run is resumed
    "steps", "give_up_after", "log_every", "evaluation", "checkpoint", "wandb", "parallel",
)  # fmt: skip

NO_HORIZON = Problem(("horizon",), "missing")
DEFAULTS = {"objective": {"kind": "log_loss"}, "meta_optimizer": {"kind": "adam"}}


class Weighted(Described):
    """A task family and its share in the meta-gradient."""

    weight: float = Field(default=1.0, gt=0.0, description="share in the meta-gradient, above 0")


class CostLimit(Model):
    """The most a task may cost: sampled ones are drawn anew until they are within it."""

    parameters: AtLeastOne | None = Field(default=None, description="numbers that are trained")
    operations: AtLeastOne | None = Field(
        default=None, description="floating-point operations of one loss and its gradient"
    )

    def build(self) -> Limit:
        return Limit(self.parameters, self.operations)


class Parallel(Model):
    """How the tasks of a family spread over devices."""

    backend: Literal["pmap", "shard_map", "vmap"] = Field(
        default="pmap",
        description="what joins the devices; vmap keeps all shards on one, for debugging",
    )
    devices: AtLeastOne = Field(
        default=1, description="number in all processes; on a CPU, of parts of the host"
    )


def _listed(value: Any) -> Any:
    """One length as a list of one; strict validation takes tuples here."""
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, int) else value


class Evaluation(Model):
    """Periodic evaluation of the averaged weights; the best ones are kept."""

    every: AtLeastOne = Field(
        default=1000, description="meta-steps between evaluations; the last counts"
    )
    suite: str = Field(default="selection", description="name of the suite")
    seeds: AtLeastOne = Field(default=2, description="runs per task")
    steps: Annotated[tuple[AtLeastOne, ...], BeforeValidator(_listed)] = Field(
        default=(200, 2000), min_length=1, description="inner steps of the runs: one length or more"
    )


class Checkpoint(Model):
    """When the whole state is saved; the end of a run and an interruption always save."""

    every_steps: AtLeastOne | None = Field(
        default=None, description="meta-steps between checkpoints"
    )
    every_seconds: float | None = Field(
        default=120.0, gt=0.0, description="seconds between checkpoints"
    )
    keep: AtLeastOne = Field(default=3, description="how many checkpoints stay")
    on_error: Literal["stop", "continue"] = Field(
        default="stop",
        description="what a save that fails, as on a full disk, does to the run; the last must not",
    )


class Wandb(Model):
    """Logging to Weights & Biases beside metrics.jsonl."""

    mode: Literal["disabled", "offline", "online"] = Field(
        default="disabled", description="where to"
    )
    project: str = Field(default="learned-opt", min_length=1, description="name of the project")


Tasks = Annotated[
    tuple[union({**FAMILIES, "sampled": Sampled}, Weighted), ...],  # pyright: ignore[reportInvalidTypeForm]
    Field(min_length=1),
]
Augmentations = tuple[union(AUGMENTATIONS), ...]  # pyright: ignore[reportInvalidTypeForm]
Horizon = union(HORIZONS)
Estimator = union(ESTIMATORS, without=("episodes", "objective", "only"), others=(PPOBlock,))
Objective = union(OBJECTIVES)


class Phase(Model):
    """What changes from one meta-step on; a key that is left out or null stays as it was, and in a
    block of the kind before so does every key of it.

    Weights, their average and the meta-optimizer go on; the inner runs begin afresh.
    """

    at: AtLeastOne = Field(description="meta-steps made before it begins")
    tasks: Tasks | None = Field(default=None, description="in place of the tasks before")
    augmentations: Augmentations | None = Field(default=None, description="likewise")
    limit: CostLimit | None = Field(default=None, description="likewise")
    horizon: Horizon | None = Field(default=None, description="likewise")  # pyright: ignore[reportInvalidTypeForm]
    estimator: Estimator | None = Field(default=None, description="likewise")  # pyright: ignore[reportInvalidTypeForm]
    objective: Objective | None = Field(default=None, description="likewise")  # pyright: ignore[reportInvalidTypeForm]
    only: tuple[str, ...] | None = Field(default=None, description="likewise; [] for all")
    resample_every: AtLeastOne | None = Field(default=None, description="likewise")

    @property
    def changes(self) -> dict[str, Any]:
        """The keys of the config that it replaces."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name != "at"}
        return {name: value for name, value in values.items() if value is not None}


class Config(Model):
    """One meta-training run."""

    version: Literal[1] = Field(default=1, description="of this schema")
    seed: int = Field(default=0, ge=0, lt=2**32, description="of all randomness")
    steps: AtLeastOne = Field(description="meta-steps")
    num_tasks: AtLeastOne = Field(default=8, description="tasks per family, a multiple of devices")
    optimizer: union(LEARNED) = Field(  # pyright: ignore[reportInvalidTypeForm]
        description="the rule whose weights are trained; keys beside the preset replace its choices"
    )
    tasks: Tasks = Field(description="the task families, each with its weight")
    augmentations: Augmentations = Field(
        default=(), description="what the tasks are wrapped in, the first innermost"
    )
    limit: CostLimit = Field(default=CostLimit(), description="cost of a task")
    resample_every: AtLeastOne | None = Field(
        default=None,
        description="meta-steps after which every `sampled` block moves on to its next tasks, at "
        "multiples of this number; null: never",
    )
    horizon: Horizon | None = Field(  # pyright: ignore[reportInvalidTypeForm]
        default=None,
        description="number of steps of an inner training run; null for ppo only, whose buckets "
        "say it",
    )
    estimator: Estimator = Field(description="how the meta-gradient is estimated")  # pyright: ignore[reportInvalidTypeForm]
    objective: Objective = Field(  # pyright: ignore[reportInvalidTypeForm]
        DEFAULTS["objective"], validate_default=True, description="what an inner step is worth"
    )
    measure: Literal["train", "inner_valid", "outer_valid"] | None = Field(
        default=None,
        description="split whose loss counts; null: the minibatch the gradient came from",
    )
    only: tuple[str, ...] = Field(
        default=(),
        description="top-level groups of the weights that are trained, the others staying as they "
        "are; [] for all",
    )
    phases: tuple[Phase, ...] = Field(
        default=(), description="what changes on the way, in the order of their beginnings"
    )
    expert: describe(None, Expert) | None = Field(  # pyright: ignore[reportInvalidTypeForm]
        default=None, description="a hand-designed optimizer that leads the inner runs at first"
    )
    resume: describe(None, Resume) | None = Field(  # pyright: ignore[reportInvalidTypeForm]
        default=None, description="lets inner runs go on from late states of earlier ones"
    )
    meta_optimizer: union(META_OPTIMIZERS) = Field(  # pyright: ignore[reportInvalidTypeForm]
        DEFAULTS["meta_optimizer"], validate_default=True, description="what updates the weights"
    )
    start_from: str | None = Field(
        default=None,
        min_length=1,
        description="weights to go on from: a packaged name, weight file or run folder; "
        "null: fresh ones",
    )
    ema: float = Field(default=0.99, ge=0.0, lt=1.0, description="decay of the averaged weights")
    family_scale: FamilyScale = Field(
        default="unit_norm",
        description="how a family's mean gradient is scaled, so that none owns the direction: not, "
        "to norm 1, or by the running root mean square of its norm",
    )
    parallel: Parallel = Field(default=Parallel(), description="devices")
    give_up_after: AtLeastOne | None = Field(
        default=200,
        description="meta-steps in a row without a finite meta-gradient that end the run",
    )
    histograms_every: AtLeastOne | None = Field(
        default=None,
        description="meta-updates between histograms of the meta-gradient, the update and the "
        "weights; null: none",
    )
    log_every: AtLeastOne = Field(default=20, description="meta-steps between transfers of metrics")
    evaluation: Evaluation | None = Field(
        default=None, description="null: the last weights are the best"
    )
    checkpoint: Checkpoint = Field(default=Checkpoint(), description="saving")
    wandb: Wandb = Field(default=Wandb(), description="remote log")


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


def families(block: Weighted, limit: Limit | None = None) -> tuple[TaskFamily, ...]:
    """The families that a block of `tasks` stands for; a limit applies to sampled ones."""
    built = block.build()
    return built.families(limit) if isinstance(built, Sampled) else (built,)


def _problem(path: tuple[str | int, ...], error: ValueError, block: Model) -> Problem:
    """A dataclass' complaint, which starts with the field's name where it is about one."""
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
