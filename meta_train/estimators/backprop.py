"""Truncated backpropagation through the unroll."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from learned_opt.base import Theta
from meta_train.estimators.base import Metrics, check, describe, staggered_start
from meta_train.horizons import MetaStep
from meta_train.objectives import Objective
from meta_train.unroll import Episodes, Inner, unroll
from tasks.base import Data


@dataclass(frozen=True)
class TruncatedBackprop:
    """The exact derivative of one window, blind to how theta shaped the state it starts from.

    length: steps of a window. The state carries over without a gradient, so what pays off after
    the window is not seen (1703.04813).
    """

    episodes: Episodes
    objective: Objective
    length: int = 50

    def __post_init__(self) -> None:
        check(self)

    @property
    def inner_steps(self) -> int:
        return self.length

    def init(self, theta: Theta, data: Data, key: PRNGKeyArray, step: MetaStep) -> Inner:
        return staggered_start(self.episodes, data, theta, key, step, self.length)

    def estimate(
        self, theta: Theta, data: Data, state: Inner, key: PRNGKeyArray, step: MetaStep
    ) -> tuple[Theta, Inner, Metrics]:
        def window(theta: Theta):
            inner, trajectory = unroll(self.episodes, data, theta, state, key, step, self.length)
            value = self.objective(trajectory)
            return jnp.mean(value), (inner, describe(trajectory, value))

        gradient, (inner, metrics) = jax.grad(window, has_aux=True)(theta)
        return gradient, inner, metrics
