"""What one step of inner training is worth; an estimator averages it over a window."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from meta_train.inner.unroll import Trajectory


@dataclass(frozen=True)
class Objective(ABC):
    """A value per step, lower is better and always finite.

    clip: the worst score of a step, also of a diverged one, whatever it diverged to.
    """

    needs_lower_bound: ClassVar[bool] = False
    clip: float = 10.0

    def __post_init__(self) -> None:
        if not self.clip > 0.0:
            raise ValueError(f"objective.clip: {self.clip} must be above 0")

    @abstractmethod
    def score(self, trajectory: Trajectory) -> Float[Array, "*length"]:
        """How good the point of every step is, possibly not finite."""
        ...

    def at_cap(self, trajectory: Trajectory) -> Bool[Array, "*length"]:
        """Where the score is as bad as it can count."""
        score = self.score(trajectory)
        return ~jnp.isfinite(score) | (score >= self.clip)

    def capped(self, trajectory: Trajectory) -> Float[Array, "*length"]:
        """The score, `clip` where it is worse or not finite."""
        return self._cap(self.score(trajectory))

    def __call__(self, trajectory: Trajectory) -> Float[Array, "*length"]:
        """What every step adds to the sum that makes up the worth of a run."""
        return self.capped(trajectory)

    def _cap(self, score: Array) -> Array:
        return jnp.where(jnp.isfinite(score), jnp.minimum(score, self.clip), self.clip)


@dataclass(frozen=True)
class LogLoss(Objective):
    """log((loss - bound) / (initial loss - bound + eps) + eps), over the last `tail` of a run.

    Improvements by equal factors pay equally. clip: the worst logarithm, also of a diverged run.
    eps: where the logarithm saturates, relative to the start. tail: the fraction of a run that
    counts, in (0, 1]; its steps weigh 1 / tail, so that a run weighs the same. Needs a declared
    lower bound (1703.04813; released code).
    """

    needs_lower_bound: ClassVar[bool] = True
    eps: float = 1e-6
    clip: float = 5.0
    tail: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.eps > 0.0:
            raise ValueError(f"objective.eps: {self.eps} must be above 0")
        if not 0.0 < self.tail <= 1.0:
            raise ValueError(f"objective.tail: {self.tail} must be above 0 and at most 1")

    def score(self, trajectory: Trajectory) -> Float[Array, "*length"]:
        bound = jnp.asarray(trajectory.lower_bound)
        left = jnp.maximum(trajectory.loss - bound, 0.0)
        left = jnp.where(jnp.isneginf(trajectory.loss), jnp.nan, left)
        return jnp.log(left / (trajectory.initial_loss - bound + self.eps) + self.eps)

    def __call__(self, trajectory: Trajectory) -> Float[Array, "*length"]:
        counts = trajectory.step + 1 > (1.0 - self.tail) * trajectory.horizon
        return jnp.where(counts, self.capped(trajectory) / self.tail, 0.0)


@dataclass(frozen=True)
class MeanLoss(Objective):
    """The loss itself; clip: the worst value, in units of the loss."""

    def score(self, trajectory: Trajectory) -> Float[Array, "*length"]:
        return trajectory.loss


@dataclass(frozen=True)
class NormalizedLoss(Objective):
    """loss / |initial loss| of the task's own start; clip: the worst value, in units of the start.

    For cross-entropy the start is about a guess, log(classes): clip 1.5 is then the usual
    normaliser of classifiers, up to its scale.
    """

    def score(self, trajectory: Trajectory) -> Float[Array, "*length"]:
        return trajectory.loss / (jnp.abs(trajectory.initial_loss) + 1e-6)


@dataclass(frozen=True)
class ExcessLoss(Objective):
    """(loss - bound) / (initial loss - bound): 1 at the task's own start, 0 at best.

    clip: the worst value; 1 or 2 is usual where the losses of a few tasks are wild (2009.11243,
    with the bound for its tuned baseline). Needs a declared lower bound.
    """

    needs_lower_bound: ClassVar[bool] = True

    def score(self, trajectory: Trajectory) -> Float[Array, "*length"]:
        bound = jnp.asarray(trajectory.lower_bound)
        return (trajectory.loss - bound) / (trajectory.initial_loss - bound + 1e-6)


@dataclass(frozen=True)
class FinalLoss(Objective):
    """The loss before the last update of a run, 0 at every other step; clip as in mean_loss.

    telescoped: every step is worth what the loss rose by since the step before (the first: its
    loss), which adds up to the same (2112.13835). Estimators that do not see beyond a window need
    it. Best with a `measure` then, since minibatches differ from step to step.
    """

    telescoped: bool = False

    def score(self, trajectory: Trajectory) -> Float[Array, "*length"]:
        return trajectory.loss

    def score_before(self, trajectory: Trajectory) -> Float[Array, "*length"]:
        """The score one step earlier, of no meaning at the first step of a run."""
        return trajectory.previous

    def __call__(self, trajectory: Trajectory) -> Float[Array, "*length"]:
        score = self.capped(trajectory)
        if self.telescoped:
            before = self._cap(self.score_before(trajectory))
            return score - jnp.where(trajectory.step == 0, 0.0, before)
        return jnp.where(trajectory.step + 1 == trajectory.horizon, score, 0.0)


@dataclass(frozen=True)
class MinLoss(FinalLoss):
    """The lowest loss of a run before its last update, at its last step; clip as in mean_loss.

    A run that diverges keeps the best it had. telescoped: every step is worth what the lowest loss
    so far fell by, as in final_loss.
    """

    def score(self, trajectory: Trajectory) -> Float[Array, "*length"]:
        return trajectory.best

    def score_before(self, trajectory: Trajectory) -> Float[Array, "*length"]:
        return trajectory.previous_best


OBJECTIVES: dict[str, type] = {
    "log_loss": LogLoss,
    "mean_loss": MeanLoss,
    "normalized_loss": NormalizedLoss,
    "excess_loss": ExcessLoss,
    "final_loss": FinalLoss,
    "min_loss": MinLoss,
}
