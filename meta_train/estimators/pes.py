"""Evolution strategies over unfinished runs: PES, ES-Single / NRES and what lies between."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

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


class PESState(NamedTuple):
    """One antithetic pair."""

    inner: Inner  # leading axis 2: the run under theta + noise, the run under theta - noise
    noise: Theta  # sum of the draws since the run began; reset with it
    draw: Theta  # the perturbation of the last window
    age: Int[Array, ""]  # windows made under `draw`; 0 asks for another


@dataclass(frozen=True)
class PES:
    """An antithetic pair per task, whose noise accumulates over the windows of a run.

    Each window's difference in loss is credited to all the noise that shaped the run so far, so the
    estimate is unbiased for the smoothed objective of the whole run (2112.13835, algorithm 2).
    length: steps of a window. redraw_every: windows under one draw of noise; 1 is PES, 0 keeps it
    for the run (ES-Single, 2304.11153; NRES, 2304.12180), whose variance does not grow with the
    number of windows. std: standard deviation of the perturbation of every weight in the groups
    `only` of theta, all where empty; fewer weights mean less variance. shaping, clip_difference:
    what the difference of a pair counts for; the difference itself, cut to +-clip_difference, its
    sign, or that of the losses' ranks in the family.
    """

    episodes: Episodes
    objective: Objective
    length: int = 50
    std: float = 0.01
    only: tuple[str, ...] = ()
    redraw_every: int = 1
    shaping: Shaping = "difference"
    clip_difference: float | None = None

    def __post_init__(self) -> None:
        check_pairs(self, self.std, self.only)
        check_shaping(self.shaping, self.clip_difference)
        if self.redraw_every < 0:
            raise ValueError(
                f"estimator.redraw_every: {self.redraw_every} must be at least 0, one draw a run"
            )

    @property
    def inner_steps(self) -> int:
        return 2 * self.length

    def init(self, theta: Theta, data: Data, key: PRNGKeyArray, step: MetaStep) -> PESState:
        inner = staggered_start(self.episodes, data, theta, key, step, self.length)
        zero = jax.tree.map(jnp.zeros_like, theta)
        return PESState(twice(inner), zero, zero, jnp.zeros((), jnp.int32))

    def estimate(
        self, theta: Theta, data: Data, state: PESState, key: PRNGKeyArray, step: MetaStep
    ) -> tuple[Theta, PESState, Metrics]:
        noise_key, unroll_key = jax.random.split(key)
        ended = state.inner.step[0] >= state.inner.horizon[0]
        renew = ended | (state.age == 0)
        new = draw(noise_key, theta, self.std, self.only)
        drawn = jax.tree.map(lambda new, old: jnp.where(renew, new, old), new, state.draw)
        noise = jax.tree.map(lambda x, e: x + jnp.where(renew, e, 0.0), state.noise, drawn)
        inner, trajectory = unroll_pair(
            self, data, apart(theta, drawn), state.inner, unroll_key, step
        )
        value, fresh = self.objective(trajectory), trajectory.fresh[0]
        old_run = self._credit(value, ~fresh)
        new_run = self._credit(value, fresh)
        gradient = jax.tree.map(
            jnp.add, along(noise, old_run, self.std), along(drawn, new_run, self.std)
        )
        # A run that begins inside a window shares its draw; the next window makes one of its own.
        age = jnp.where(fresh[-1] & ~fresh[0], 0, jnp.where(renew, 1, state.age + 1))
        if self.redraw_every:
            age = age % self.redraw_every
        noise = jax.tree.map(lambda x, e: jnp.where(fresh[-1], e, x), noise, drawn)
        metrics = describe(self.objective, trajectory)
        metrics["tied"] = tied(self.objective, trajectory)
        return gradient, PESState(inner, noise, drawn, age), metrics

    def _credit(self, value: Array, counts: Array) -> Array:
        """What the pair's runs differ by on the steps that count, weighted by their share."""
        return jnp.mean(counts) * contrast(self.shaping, self.clip_difference, value, counts)
