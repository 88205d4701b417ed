"""What a gradient estimator is: unrolls of one task in, d objective / d theta out."""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.base import Theta
from meta_train.horizons import MetaStep
from meta_train.objectives import Objective
from meta_train.unroll import Episodes, Inner, Trajectory, start
from tasks.base import Data

Metrics = dict[str, Array]
EstimatorState = Any  # pytree of arrays, carried from one meta-step to the next


@runtime_checkable
class GradientEstimator(Protocol):
    """A frozen dataclass for one task; the learner vmaps it over tasks and joins devices.

    step: meta-steps made so far. `estimate` may use collectives over the axes TASKS and AXIS of
    meta_train/parallel.py: together they are all tasks of the family.
    """

    @property
    def episodes(self) -> Episodes: ...

    @property
    def objective(self) -> Objective: ...

    @property
    def length(self) -> int:
        """Steps of a window."""
        ...

    def init(
        self, theta: Theta, data: Data, key: PRNGKeyArray, step: MetaStep
    ) -> EstimatorState: ...

    def estimate(
        self, theta: Theta, data: Data, state: EstimatorState, key: PRNGKeyArray, step: MetaStep
    ) -> tuple[Theta, EstimatorState, Metrics]:
        """The gradient (theta's shape), the state after the window, scalar metrics."""
        ...

    @property
    def inner_steps(self) -> int:
        """Inner training steps of one `estimate`."""
        ...


def check(estimator: GradientEstimator) -> None:
    """Refuses what would silently estimate something else.

    Raises ValueError when a window could hold more than one end of a run, or when the objective
    needs a lower bound of the loss that the family does not declare.
    """
    episodes, objective = estimator.episodes, estimator.objective
    if not 1 <= estimator.length <= episodes.horizons.shortest:
        raise ValueError(
            f"estimator.length: {estimator.length} must be between 1 and the shortest horizon, "
            f"{episodes.horizons.shortest}"
        )
    if objective.needs_lower_bound and not _has_lower_bound(episodes):
        raise ValueError(
            f"objective: {type(objective).__name__} needs a lower bound of the loss, and task "
            f"{episodes.family.name!r} declares none; MeanLoss, NormalizedLoss and FinalLoss do not"
        )


def _has_lower_bound(episodes: Episodes) -> bool:
    family, found = episodes.family, []

    def probe(key: PRNGKeyArray) -> Array:
        found.append(family.task(family.sample(key), family.load()).lower_bound is not None)
        return jnp.zeros(())

    jax.eval_shape(probe, jax.random.key(0))
    return found[0]


def staggered_start(
    episodes: Episodes, data: Data, theta: Theta, key: PRNGKeyArray, step: MetaStep, length: int
) -> Inner:
    """A first run cut short at random, so that the tasks of a family do not end together.

    length: steps of a window, which the run does not fall below: one window holds one end.
    """
    start_key, cut_key = jax.random.split(key)
    inner = start(episodes, data, theta, start_key, step)
    cut = jnp.ceil(jax.random.uniform(cut_key) * inner.horizon).astype(jnp.int32)
    return inner._replace(horizon=jnp.maximum(cut, length))


def describe(trajectory: Trajectory, value: Float[Array, "..."]) -> Metrics:
    """Scalars worth logging about a window; `value` is the objective per step."""
    return {
        "objective": jnp.mean(value),
        "diverged": jnp.mean(~jnp.isfinite(trajectory.loss)),
        "horizon": jnp.mean(trajectory.horizon.astype(jnp.float32)),
    }
