"""Persistent evolution strategies for the past of a run, backprop for its current window."""

from dataclasses import dataclass
from typing import NamedTuple

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
from meta_train.estimators.backprop import check_remat, slope
from meta_train.estimators.base import Metrics, describe, refuse_resume, staggered_start
from meta_train.inner.horizons import MetaStep
from meta_train.inner.objectives import Objective
from meta_train.inner.unroll import Episodes, Inner
from tasks.base import Data


class PESBackpropState(NamedTuple):
    """A run at theta and an antithetic pair on the same task."""

    inner: Inner  # leading axis 2: the run under theta + noise, the run under theta - noise
    centre: Inner  # the run under theta
    noise: Theta  # sum of the draws since the run began; reset with it


@dataclass(frozen=True)
class PESBackprop:
    """PES whose credit for the current window is exact: PES + analytic of 2112.13835.

    Backprop through the window of an unperturbed run gives the slope of what theta does now; the
    pair's difference is credited to earlier noise only, less what the slope predicts of it, which
    takes out the noise of the current draw. Of less variance than pes where backprop through a
    window is well behaved; half as many steps again, and those of backprop. length: steps of a
    window. std: standard deviation of the perturbation of every weight. remat_every: as in
    backprop.
    """

    episodes: Episodes
    objective: Objective
    length: int = 50
    std: float = 0.01
    only: tuple[str, ...] = ()
    remat_every: int = 0

    def __post_init__(self) -> None:
        check_pairs(self, self.std, self.only)
        check_remat(self.remat_every, self.length)
        refuse_resume(self, "keeps three runs on one task, which would go on from different states")

    @property
    def inner_steps(self) -> int:
        return 3 * self.length

    def init(self, theta: Theta, data: Data, key: PRNGKeyArray, step: MetaStep) -> PESBackpropState:
        inner = staggered_start(self.episodes, data, theta, key, step, self.length)
        return PESBackpropState(twice(inner), inner, jax.tree.map(jnp.zeros_like, theta))

    def estimate(
        self, theta: Theta, data: Data, state: PESBackpropState, key: PRNGKeyArray, step: MetaStep
    ) -> tuple[Theta, PESBackpropState, Metrics]:
        noise_key, unroll_key = jax.random.split(key)
        noise = draw(noise_key, theta, self.std, self.only)
        (_, centre, seen), analytic = slope(
            self, data, theta, state.centre, unroll_key, step, self.remat_every
        )
        inner, trajectory = unroll_pair(
            self, data, apart(theta, noise), state.inner, unroll_key, step
        )
        value, fresh = self.objective(trajectory), trajectory.fresh[0]
        difference = jnp.mean(jnp.where(fresh, 0.0, value[0] - value[1]))
        # Of mean zero whatever the slope is, since the current draw is independent of earlier ones.
        predicted = 2.0 * sum(
            jnp.vdot(e, g)
            for e, g in zip(jax.tree.leaves(noise), jax.tree.leaves(analytic), strict=True)
        )
        predicted = jnp.where(fresh[0], 0.0, predicted)  # a new run has no past to credit
        past = along(state.noise, difference - predicted, self.std)
        total = jax.tree.map(lambda x, e: jnp.where(fresh[-1], e, x + e), state.noise, noise)
        metrics = describe(self.objective, seen) | {"tied": tied(self.objective, trajectory)}
        gradient = jax.tree.map(jnp.add, analytic, past)
        return gradient, PESBackpropState(inner, centre, total), metrics
