"""Backpropagation through the unroll: window by window, or through whole runs."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learned_opt.base import Theta
from meta_train.estimators.base import (
    GradientEstimator,
    Metrics,
    check,
    describe,
    refuse_resume,
    staggered_start,
)
from meta_train.inner.horizons import Fixed, MetaStep
from meta_train.inner.objectives import Objective
from meta_train.inner.unroll import Episodes, Inner, Trajectory, start, unroll
from tasks.base import Data


def check_remat(remat_every: int, length: int) -> None:
    if remat_every < 0 or (remat_every and length % remat_every):
        raise ValueError(
            f"estimator.remat_every: {remat_every} must be 0 or divide the {length} steps of a "
            "window"
        )


def slope(
    estimator: GradientEstimator,
    data: Data,
    theta: Theta,
    state: Inner,
    key: PRNGKeyArray,
    step: MetaStep,
    remat_every: int,
) -> tuple[tuple[Float[Array, ""], Inner, Trajectory], Theta]:
    """(mean objective of a window, state after it, what it saw), and the derivative of the first.

    What theta did before `state` is not seen.
    """

    def window(theta: Theta):
        inner, trajectory = unroll(
            estimator.episodes, data, theta, state, key, step, estimator.length, remat_every
        )
        return jnp.mean(estimator.objective(trajectory)), (inner, trajectory)

    (value, (inner, trajectory)), gradient = jax.value_and_grad(window, has_aux=True)(theta)
    return (value, inner, trajectory), gradient


@dataclass(frozen=True)
class TruncatedBackprop:
    """The exact derivative of one window, blind to how theta shaped the state it starts from.

    length: steps of a window. The state carries over without a gradient, so what pays off after
    the window is not seen (1703.04813). remat_every: keep the state of every so many steps and
    compute the steps between again, for less memory at a third more time; 0 keeps all.
    """

    episodes: Episodes
    objective: Objective
    length: int = 50
    remat_every: int = 0

    def __post_init__(self) -> None:
        check(self)
        check_remat(self.remat_every, self.length)

    @property
    def inner_steps(self) -> int:
        return self.length

    def init(self, theta: Theta, data: Data, key: PRNGKeyArray, step: MetaStep) -> Inner:
        return staggered_start(self.episodes, data, theta, key, step, self.length)

    def estimate(
        self, theta: Theta, data: Data, state: Inner, key: PRNGKeyArray, step: MetaStep
    ) -> tuple[Theta, Inner, Metrics]:
        (_, inner, trajectory), gradient = slope(
            self, data, theta, state, key, step, self.remat_every
        )
        return gradient, inner, describe(self.objective, trajectory)


@dataclass(frozen=True)
class FullBackprop:
    """The exact derivative of whole runs, which are started afresh at every meta-step.

    Without bias, but of use only where a run is short or its training stable: else the derivative
    grows exponentially with the number of steps. Needs a fixed horizon. remat_every: as in
    backprop; the root of the horizon needs the least memory.
    """

    episodes: Episodes
    objective: Objective
    remat_every: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.episodes.horizons, Fixed):
            raise ValueError("horizon.kind: full_backprop sees whole runs; it needs kind: fixed")
        check(self)
        check_remat(self.remat_every, self.length)
        refuse_resume(self, "begins every run afresh")

    @property
    def length(self) -> int:
        return self.episodes.horizons.shortest

    @property
    def inner_steps(self) -> int:
        return self.length

    def init(self, theta: Theta, data: Data, key: PRNGKeyArray, step: MetaStep) -> Int[Array, ""]:
        """The number of runs made; nothing else is carried over."""
        del theta, data, key, step
        return jnp.zeros((), jnp.int32)

    def estimate(
        self, theta: Theta, data: Data, state: Int[Array, ""], key: PRNGKeyArray, step: MetaStep
    ) -> tuple[Theta, Int[Array, ""], Metrics]:
        start_key, run_key = jax.random.split(key)

        def run(theta: Theta) -> tuple[Array, Trajectory]:
            inner = start(self.episodes, data, theta, start_key, step)
            _, trajectory = unroll(
                self.episodes, data, theta, inner, run_key, step, self.length, self.remat_every
            )
            return jnp.mean(self.objective(trajectory)), trajectory

        gradient, trajectory = jax.grad(run, has_aux=True)(theta)
        return gradient, state + 1, describe(self.objective, trajectory)
