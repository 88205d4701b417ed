"""What one step of inner training is worth; an estimator averages it over a window."""

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from meta_train.unroll import Trajectory


@runtime_checkable
class Objective(Protocol):
    """A value per step, lower is better and always finite."""

    needs_lower_bound: ClassVar[bool]

    def __call__(self, trajectory: Trajectory) -> Float[Array, "*length"]: ...


def _check_clip(clip: float) -> None:
    if not clip > 0.0:
        raise ValueError(f"objective.clip: {clip} must be above 0")


def _capped(value: Array, clip: float) -> Array:
    """A diverged run is worth `clip`, whatever it diverged to."""
    return jnp.where(jnp.isfinite(value), jnp.minimum(value, clip), clip)


@dataclass(frozen=True)
class LogLoss:
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
        _check_clip(self.clip)
        if not self.eps > 0.0:
            raise ValueError(f"objective.eps: {self.eps} must be above 0")
        if not 0.0 < self.tail <= 1.0:
            raise ValueError(f"objective.tail: {self.tail} must be above 0 and at most 1")

    def __call__(self, trajectory: Trajectory) -> Float[Array, "*length"]:
        bound = jnp.asarray(trajectory.lower_bound)
        left = jnp.maximum(trajectory.loss - bound, 0.0)
        value = jnp.log(left / (trajectory.initial_loss - bound + self.eps) + self.eps)
        counts = trajectory.step + 1 > (1.0 - self.tail) * trajectory.horizon
        return jnp.where(counts, _capped(value, self.clip) / self.tail, 0.0)


@dataclass(frozen=True)
class MeanLoss:
    """The loss itself; clip: the worst value, in units of the loss."""

    needs_lower_bound: ClassVar[bool] = False
    clip: float = 10.0

    def __post_init__(self) -> None:
        _check_clip(self.clip)

    def __call__(self, trajectory: Trajectory) -> Float[Array, "*length"]:
        return _capped(trajectory.loss, self.clip)


@dataclass(frozen=True)
class NormalizedLoss:
    """loss / |initial loss|; clip: the worst value, in units of the start."""

    needs_lower_bound: ClassVar[bool] = False
    clip: float = 10.0

    def __post_init__(self) -> None:
        _check_clip(self.clip)

    def __call__(self, trajectory: Trajectory) -> Float[Array, "*length"]:
        return _capped(trajectory.loss / (jnp.abs(trajectory.initial_loss) + 1e-6), self.clip)


@dataclass(frozen=True)
class FinalLoss:
    """The loss before the last update of a run, 0 at every other step; clip as in MeanLoss."""

    needs_lower_bound: ClassVar[bool] = False
    clip: float = 10.0

    def __post_init__(self) -> None:
        _check_clip(self.clip)

    def __call__(self, trajectory: Trajectory) -> Float[Array, "*length"]:
        last = trajectory.step + 1 == trajectory.horizon
        return jnp.where(last, _capped(trajectory.loss, self.clip), 0.0)


OBJECTIVES: dict[str, type] = {
    "log_loss": LogLoss,
    "mean_loss": MeanLoss,
    "normalized_loss": NormalizedLoss,
    "final_loss": FinalLoss,
}
