"""Backprop and evolution strategies together, each weight by whichever is surer of it."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from learned_opt.base import Theta
from meta_train.estimators.antithetic import along, apart, check_pairs, draw, tied
from meta_train.estimators.backprop import check_remat, slope
from meta_train.estimators.base import Metrics, describe, staggered_start
from meta_train.inner.horizons import MetaStep
from meta_train.inner.objectives import Objective
from meta_train.inner.unroll import Episodes, Inner
from meta_train.parallel import AXIS, TASKS
from tasks.base import Data


@dataclass(frozen=True)
class BackpropES:
    """Two estimates of the slope of the smoothed window, averaged by inverse variance.

    Every task runs an antithetic pair; the losses give one estimate, their derivatives the other.
    For each weight, the tasks of the family give the variance of both (1810.10180): where backprop
    explodes, evolution strategies take over. Wants 50 tasks or more per family, and
    meta_optimizer.clip (0.1 there). Blind to the past, as truncated_es. length: steps of a window.
    std: standard deviation of the perturbation of every weight. remat_every: as in backprop.
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
        (value, inner, trajectory), slopes = jax.vmap(
            lambda theta: slope(self, data, theta, state, unroll_key, step, self.remat_every)
        )(apart(theta, noise))
        by_losses = along(noise, value[0] - value[1], self.std)
        by_backprop = jax.tree.map(lambda x: jnp.mean(x, axis=0), slopes)
        shares = jax.tree.map(_share, by_backprop, by_losses)
        gradient = jax.tree.map(_mix, shares, by_backprop, by_losses)
        metrics = describe(self.objective, trajectory) | {
            "tied": tied(self.objective, trajectory),
            "backprop_share": jnp.mean(jnp.concatenate(self._trained(shares))),
        }
        return gradient, jax.tree.map(lambda x: x[0], inner), metrics

    def _trained(self, shares: Theta) -> list[Array]:
        return [
            leaf.ravel()
            for path, leaf in jax.tree.leaves_with_path(shares)
            if not self.only or path[0].key in self.only
        ]


def _share(one: Array, other: Array) -> Array:
    """The weight of `one` for each entry: the inverse of its variance over the tasks."""
    precise, other_precise = _precision(one), _precision(other)
    return precise / jnp.maximum(precise + other_precise, 1e-30)


def _precision(x: Array) -> Array:
    """1 / (variance + 1e-8) over all tasks of the family, 0 where one is not finite."""
    total = lambda x: jax.lax.psum(x, (TASKS, AXIS))
    number = total(jnp.ones(()))
    variance = total((x - total(x) / number) ** 2) / jnp.maximum(number - 1.0, 1.0)
    return jnp.where(jnp.isfinite(variance), 1.0 / (variance + 1e-8), 0.0)


def _mix(share: Array, one: Array, other: Array) -> Array:
    return share * jnp.where(share > 0.0, one, 0.0) + (1.0 - share) * other
