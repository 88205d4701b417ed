"""Evolution strategies over whole runs."""

from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learned_opt.base import Theta
from meta_train.estimators.antithetic import (
    along,
    apart,
    check_pairs,
    draw,
    unroll_pair,
)
from meta_train.estimators.base import (
    Metrics,
    Tally,
    nothing,
    refuse_resume,
    report,
    tally,
)
from meta_train.estimators.shaping import Shaping, check_shaping, contrast
from meta_train.inner.horizons import Horizons, MetaStep
from meta_train.inner.objectives import MinLoss, Objective
from meta_train.inner.unroll import Episodes, Inner, see_end, start
from meta_train.parallel import from_first_task
from tasks.base import Data, Split


class _Sofar(NamedTuple):
    inner: Inner  # leading axis 2
    value: Float[Array, "2"]  # sum of the objective
    seen: Tally


@dataclass(frozen=True)
class FullES:
    """An antithetic pair per task and meta-step, whose runs are started afresh and seen whole.

    The reference for the others: no truncation, nothing carried over, but a meta-step takes a whole
    run. All tasks of a meta-step take the same number of steps, drawn anew each time and rounded up
    to a multiple of length, the steps of a window. final_batches: where above 0, a run is worth
    the objective's score at its last parameters on so many fresh minibatches instead, the mean over
    final_splits, such as train and outer_valid; none: the measured split. std, shaping,
    clip_difference: as in pes.
    """

    episodes: Episodes
    objective: Objective
    length: int = 50
    std: float = 0.01
    only: tuple[str, ...] = ()
    final_batches: int = 0
    final_splits: tuple[Split, ...] = ()
    shaping: Shaping = "difference"
    clip_difference: float | None = None

    def __post_init__(self) -> None:
        check_pairs(self, self.std, self.only)
        check_shaping(self.shaping, self.clip_difference)
        if self.final_batches < 0:
            raise ValueError(f"estimator.final_batches: {self.final_batches} must be at least 0")
        if self.final_splits and not self.final_batches:
            raise ValueError("estimator.final_splits: they need final_batches above 0")
        if self.final_batches and isinstance(self.objective, MinLoss):
            raise ValueError(
                f"estimator.final_batches: {self.final_batches} measures a run's last parameters, "
                "and min_loss its best ones; leave one out"
            )
        refuse_resume(self, "begins every run afresh")

    @property
    def inner_steps(self) -> int:
        """The mean, over draws at the first meta-step."""
        return round(2 * _mean_steps(self.episodes.horizons, self.length))

    def init(self, theta: Theta, data: Data, key: PRNGKeyArray, step: MetaStep) -> Int[Array, ""]:
        """The number of runs made; nothing else is carried over."""
        del theta, data, key, step
        return jnp.zeros((), jnp.int32)

    def estimate(
        self, theta: Theta, data: Data, state: Int[Array, ""], key: PRNGKeyArray, step: MetaStep
    ) -> tuple[Theta, Int[Array, ""], Metrics]:
        noise_key, run_key = jax.random.split(key)
        start_key, horizon_key, run_key, end_key = jax.random.split(run_key, 4)
        noise = draw(noise_key, theta, self.std, self.only)
        thetas = apart(theta, noise)
        drawn = self.episodes.horizons.sample(horizon_key, step)
        windows = -(-from_first_task(drawn) // self.length)
        end = self._run(data, thetas, windows, (start_key, run_key), step)
        metrics = report(end.seen)
        value = end.value / (windows * self.length)
        if self.final_batches:
            value = jax.vmap(lambda inner: self._final_value(data, inner, end_key))(end.inner)
            metrics["objective"] = jnp.mean(value)
        difference = contrast(self.shaping, self.clip_difference, value[:, None], jnp.ones(1, bool))
        metrics["tied"] = (value[0] == value[1]).astype(jnp.float32)
        return along(noise, difference, self.std), state + 1, metrics

    def _final_value(self, data: Data, inner: Inner, key: PRNGKeyArray) -> Float[Array, ""]:
        splits = self.final_splits or (self.episodes.measure or "train",)
        measured = partial(see_end, self.episodes, data, inner, key, self.final_batches)
        return jnp.mean(jnp.stack([self.objective.capped(measured(split))[0] for split in splits]))

    def _run(
        self,
        data: Data,
        thetas: Theta,
        windows: Int[Array, ""],
        keys: tuple[PRNGKeyArray, PRNGKeyArray],
        step: MetaStep,
    ) -> _Sofar:
        """Both halves from their start to their end."""
        start_key, run_key = keys
        horizon = windows * self.length
        inner = jax.vmap(lambda theta: start(self.episodes, data, theta, start_key, step, horizon))(
            thetas
        )

        def window(i: Array, sofar: _Sofar) -> _Sofar:
            key = jax.random.fold_in(run_key, i)
            inner, trajectory = unroll_pair(self, data, thetas, sofar.inner, key, step)
            value = sofar.value + jnp.sum(self.objective(trajectory), axis=-1)
            seen = jax.tree.map(jnp.add, sofar.seen, tally(self.objective, trajectory))
            return _Sofar(inner, value, seen)

        return jax.lax.fori_loop(0, windows, window, _Sofar(inner, jnp.zeros(2), nothing()))


@cache
def _mean_steps(horizons: Horizons, length: int) -> float:
    keys = jax.random.split(jax.random.key(0), 1000)
    drawn = jax.vmap(lambda key: horizons.sample(key, 0))(keys)
    return float(jnp.mean((-(-drawn // length) * length).astype(jnp.float32)))
