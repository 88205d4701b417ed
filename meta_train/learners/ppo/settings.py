"""What a config says of PPO: its constants, and the buckets its environments come from."""

from dataclasses import dataclass
from typing import Literal

from learned_opt.naming import check_name
from tasks.names import check_at_least

BASELINES = ("adamw", "self_play")


@dataclass(frozen=True)
class Bucket:
    """Episodes of one length on one task family.

    task: name of an entry of `tasks`. pauses: how often the controller acts in an episode. steps:
    updates between two pauses, of which one in four is watched. episodes: per meta-step, a multiple
    of devices times minibatches; null for num_tasks.
    """

    task: str
    pauses: int = 16
    steps: int = 24
    episodes: int | None = None

    def __post_init__(self) -> None:
        check_at_least(2, pauses=self.pauses)
        check_at_least(1, steps=self.steps, episodes=1 if self.episodes is None else self.episodes)

    @property
    def name(self) -> str:
        """How logs call it: the same task may be in several buckets."""
        return f"{self.task}-{self.pauses}x{self.steps}"


@dataclass(frozen=True)
class PPO:
    """Proximal policy optimisation of whole episodes (1707.06347, 2106.00958); for kind lhopt only.

    buckets: where episodes come from; without any, one of 16 pauses of 24 steps for every task.
    clip: of the probability ratio. entropy, value: coefficients of the losses. decay: lambda of
    generalised advantages. epochs, minibatches: of every meta-step. baseline: whose learning curve
    rewards are read from, AdamW at 1e-3 or the averaged policy itself from clean hyperparameters,
    run anew every `refresh` meta-steps. cap: most times the baseline's steps that a run may count
    for. samples: tasks drawn from each family, each with `seeds` runs of the baseline.
    """

    buckets: tuple[Bucket, ...] = ()
    clip: float = 0.2
    entropy: float = 0.01
    value: float = 0.5
    decay: float = 0.95
    epochs: int = 4
    minibatches: int = 2
    baseline: Literal["adamw", "self_play"] = "adamw"
    cap: float = 8.0
    refresh: int = 50
    samples: int = 16
    seeds: int = 4

    def __post_init__(self) -> None:
        check_name("baseline", self.baseline, BASELINES)
        check_at_least(
            1, epochs=self.epochs, minibatches=self.minibatches, refresh=self.refresh,
            samples=self.samples, seeds=self.seeds,
        )  # fmt: skip
        for name in ("clip", "cap"):
            if not getattr(self, name) > (1.0 if name == "cap" else 0.0):
                least = "1" if name == "cap" else "0"
                raise ValueError(f"{name}: {getattr(self, name)} must be above {least}")
        if not 0.0 <= self.decay <= 1.0:
            raise ValueError(f"decay: {self.decay} is not allowed; it must be 0 .. 1")
        for name in ("entropy", "value"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least 0")
        names = [bucket.name for bucket in self.buckets]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"buckets: {name} is there twice; raise its episodes instead")
