"""What a gradient estimator is: unrolls of one task in, d objective / d theta out."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.base import Theta, eval_params
from meta_train.inner.horizons import MetaStep
from meta_train.inner.objectives import Objective
from meta_train.inner.unroll import Episodes, Inner, Trajectory, start
from tasks.base import Data

Metrics = dict[str, Array]
BINS = 10  # of the position of a step in its run, for what is logged
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
            f"{episodes.family.name!r} declares none; MeanLoss, NormalizedLoss, FinalLoss and "
            "MinLoss do not"
        )
    if episodes.expert is not None and _looks_ahead(episodes):
        raise ValueError("expert: this optimizer keeps a lookahead point, which no expert can lead")


def refuse_resume(estimator: GradientEstimator, why: str) -> None:
    if estimator.episodes.resume is not None:
        raise ValueError(f"resume: this estimator {why}; leave it out, or use pes")


def _has_lower_bound(episodes: Episodes) -> bool:
    family, found = episodes.family, []

    def probe(key: PRNGKeyArray) -> Array:
        found.append(family.task(family.sample(key), family.load()).lower_bound is not None)
        return jnp.zeros(())

    jax.eval_shape(probe, jax.random.key(0))
    return found[0]


def _looks_ahead(episodes: Episodes) -> bool:
    """Whether the rule evaluates another point than the one it takes gradients at."""
    rule, found = episodes.optimizer, []

    def probe(key: PRNGKeyArray) -> Array:
        params = {"w": jnp.zeros(1)}
        state = rule.opt(rule.init(key), 1).init(params)
        found.append(eval_params(state, params) is not params)
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


class Tally(NamedTuple):
    """Sums over steps, so that those of several windows add up; BINS of position in the run."""

    steps: Float[Array, ""]
    objective: Float[Array, ""]
    diverged: Float[Array, ""]
    capped: Float[Array, ""]
    horizon: Float[Array, ""]
    bin_steps: Float[Array, " bins"]
    bin_scores: Float[Array, " bins"]


def nothing() -> Tally:
    """The tally of no step."""
    zero, bins = jnp.zeros(()), jnp.zeros(BINS)
    return Tally(zero, zero, zero, zero, zero, bins, bins)


def tally(objective: Objective, trajectory: Trajectory) -> Tally:
    """What is worth logging about a window; leading axes of the trajectory are summed over."""
    total = lambda x: jnp.sum(x.astype(jnp.float32))
    place = jnp.floor(BINS * trajectory.step / trajectory.horizon.astype(jnp.float32))
    inside = place[..., None] == jnp.arange(BINS)
    per_bin = lambda x: jnp.sum(jnp.where(inside, x, 0.0), axis=tuple(range(place.ndim)))
    return Tally(
        steps=jnp.float32(place.size),
        objective=total(objective(trajectory)),
        diverged=total(~jnp.isfinite(trajectory.loss)),
        capped=total(objective.at_cap(trajectory)),
        horizon=total(trajectory.horizon),
        bin_steps=per_bin(1.0),
        bin_scores=per_bin(objective.capped(trajectory)[..., None]),
    )


def report(seen: Tally) -> Metrics:
    """Means over the steps of a tally; a position that no step fell on is NaN."""
    scores = seen.bin_scores / seen.bin_steps
    return {
        "objective": seen.objective / seen.steps,
        "diverged": seen.diverged / seen.steps,
        "capped": seen.capped / seen.steps,
        "horizon": seen.horizon / seen.steps,
    } | {f"position/{i}": scores[i] for i in range(BINS)}


def describe(objective: Objective, trajectory: Trajectory) -> Metrics:
    """Scalars worth logging about one window.

    objective: mean over the steps. diverged: fraction of steps whose loss is not finite. capped:
    fraction as bad as the objective lets any be. horizon: mean number of steps of the runs in it.
    position/i: mean score in the i-th tenth of a run, NaN where the window held none of it.
    """
    return report(tally(objective, trajectory))
