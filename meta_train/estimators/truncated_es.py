"""Truncated evolution strategies: short windows, smoothed, blind to the past."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from learned_opt.base import Theta
from meta_train.estimators.antithetic import (
    along,
    apart,
    check_pairs,
    draw,
    tied,
    twice,
    unroll_pair,
)
from meta_train.estimators.base import Metrics, describe, staggered_start
from meta_train.estimators.shaping import Shaping, check_shaping, contrast
from meta_train.inner.horizons import MetaStep
from meta_train.inner.objectives import Objective
from meta_train.inner.unroll import Episodes, Inner
from tasks.base import Data


@dataclass(frozen=True)
class TruncatedES:
    """Both halves of a pair start every window from one state, that of the half above theta.

    As backprop's, the estimate does not see how theta shaped that state; unlike backprop's it
    stays useful where training is chaotic (2009.11243). length: steps of a window; 240 and more are
    usual. std, shaping, clip_difference: as in pes.
    """

    episodes: Episodes
    objective: Objective
    length: int = 50
    std: float = 0.01
    only: tuple[str, ...] = ()
    shaping: Shaping = "difference"
    clip_difference: float | None = None

    def __post_init__(self) -> None:
        check_pairs(self, self.std, self.only)
        check_shaping(self.shaping, self.clip_difference)

    @property
    def inner_steps(self) -> int:
        return 2 * self.length

    def init(self, theta: Theta, data: Data, key: PRNGKeyArray, step: MetaStep) -> Inner:
        return staggered_start(self.episodes, data, theta, key, step, self.length)

    def estimate(
        self, theta: Theta, data: Data, state: Inner, key: PRNGKeyArray, step: MetaStep
    ) -> tuple[Theta, Inner, Metrics]:
        noise_key, unroll_key = jax.random.split(key)
        noise = draw(noise_key, theta, self.std, self.only)
        inner, trajectory = unroll_pair(
            self, data, apart(theta, noise), twice(state), unroll_key, step
        )
        value = self.objective(trajectory)
        every = jnp.ones(self.length, bool)
        difference = contrast(self.shaping, self.clip_difference, value, every)
        metrics = describe(self.objective, trajectory)
        metrics["tied"] = tied(self.objective, trajectory)
        return along(noise, difference, self.std), jax.tree.map(lambda x: x[0], inner), metrics
