"""The config of a meta-training run, key by key."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from learned_opt.registry import LEARNED
from meta_train.config.ppo import PPOBlock
from meta_train.config.schema import Described, Model, describe, union
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
from tasks.registry import FAMILIES

AtLeastOne = Annotated[int, Field(ge=1)]
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


def families(block: Weighted, limit: Limit | None = None) -> tuple[TaskFamily, ...]:
    """The families that a block of `tasks` stands for; a limit applies to sampled ones."""
    built = block.build()
    return built.families(limit) if isinstance(built, Sampled) else (built,)
