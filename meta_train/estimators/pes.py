"""Persistent evolution strategies: unbiased truncated gradients (2112.13835)."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from learned_opt.base import Theta
from learned_opt.naming import check_name
from meta_train.estimators.base import Metrics, check, describe, staggered_start
from meta_train.horizons import MetaStep
from meta_train.objectives import Objective
from meta_train.unroll import Episodes, Inner, unroll
from tasks.base import Data


class PESState(NamedTuple):
    """One antithetic pair."""

    inner: Inner  # leading axis 2: the run under theta + noise, the run under theta - noise
    noise: Theta  # sum of the perturbations since the run began; reset with it


@dataclass(frozen=True)
class PES:
    """An antithetic pair per task, whose noise accumulates over the windows of a run.

    Each window's difference in loss is credited to all the noise that shaped the run so far, so the
    estimate is unbiased for the smoothed objective of the whole run (2112.13835, algorithm 2).
    length: steps of a window. std: standard deviation of the perturbation of every weight. only:
    the top-level groups of theta that are perturbed and so trained, all where empty; fewer weights
    mean less variance.
    """

    episodes: Episodes
    objective: Objective
    length: int = 50
    std: float = 0.01
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self)
        groups = jax.eval_shape(self.episodes.optimizer.init, jax.random.key(0))
        for name in self.only:
            check_name("estimator.only", name, groups)
        if not self.std > 0.0:
            raise ValueError(f"estimator.std: {self.std} must be above 0")

    @property
    def inner_steps(self) -> int:
        return 2 * self.length

    def init(self, theta: Theta, data: Data, key: PRNGKeyArray, step: MetaStep) -> PESState:
        inner = staggered_start(self.episodes, data, theta, key, step, self.length)
        pair = jax.tree.map(lambda x: jnp.stack([x, x]), inner)
        return PESState(pair, jax.tree.map(jnp.zeros_like, theta))

    def estimate(
        self, theta: Theta, data: Data, state: PESState, key: PRNGKeyArray, step: MetaStep
    ) -> tuple[Theta, PESState, Metrics]:
        noise_key, unroll_key = jax.random.split(key)
        draw = self._draw(noise_key, theta)
        pair = jax.tree.map(lambda t, e: jnp.stack([t + e, t - e]), theta, draw)
        inner, trajectory = jax.vmap(
            lambda theta, inner: unroll(
                self.episodes, data, theta, inner, unroll_key, step, self.length
            )
        )(pair, state.inner)

        value = self.objective(trajectory)
        difference = value[0] - value[1]
        fresh = trajectory.fresh[0]
        old_run = jnp.mean(jnp.where(fresh, 0.0, difference))
        new_run = jnp.mean(jnp.where(fresh, difference, 0.0))
        noise = jax.tree.map(jnp.add, state.noise, draw)
        gradient = jax.tree.map(
            lambda x, e: (old_run * x + new_run * e) / (2.0 * self.std**2), noise, draw
        )
        noise = jax.tree.map(lambda x, e: jnp.where(fresh[-1], e, x), noise, draw)
        return gradient, PESState(inner, noise), describe(trajectory, value)

    def _draw(self, key: PRNGKeyArray, theta: Theta) -> Theta:
        leaves, treedef = jax.tree.flatten_with_path(theta)
        keys = jax.random.split(key, len(leaves))
        return treedef.unflatten(
            self.std * jax.random.normal(k, leaf.shape, leaf.dtype)
            if not self.only or path[0].key in self.only
            else jnp.zeros_like(leaf)
            for k, (path, leaf) in zip(keys, leaves, strict=True)
        )
