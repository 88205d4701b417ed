"""Antithetic pairs: theta + noise and theta - noise on the same tasks, data and inner noise."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.base import Theta
from learned_opt.naming import check_name
from meta_train.estimators.base import GradientEstimator, check
from meta_train.inner.horizons import MetaStep
from meta_train.inner.objectives import Objective
from meta_train.inner.unroll import Inner, Trajectory, unroll
from tasks.base import Data


def check_pairs(estimator: GradientEstimator, std: float, only: Sequence[str]) -> None:
    """`check`, and refuses noise without a size and names that are no top-level group of theta."""
    check(estimator)
    if not 0.0 < std < float("inf"):
        raise ValueError(f"estimator.std: {std} must be above 0")
    groups = jax.eval_shape(estimator.episodes.optimizer.init, jax.random.key(0))
    for name in only:
        check_name("only", name, groups)


def draw(key: PRNGKeyArray, theta: Theta, std: float, only: Sequence[str] = ()) -> Theta:
    """Normal noise of theta's shape, 0 outside the top-level groups `only`; empty means all."""
    leaves, treedef = jax.tree.flatten_with_path(theta)
    keys = jax.random.split(key, len(leaves))
    return treedef.unflatten(
        std * jax.random.normal(k, leaf.shape, leaf.dtype)
        if not only or path[0].key in only
        else jnp.zeros_like(leaf)
        for k, (path, leaf) in zip(keys, leaves, strict=True)
    )


def apart(theta: Theta, noise: Theta) -> Theta:
    """theta + noise and theta - noise along a new leading axis."""
    return jax.tree.map(lambda t, e: jnp.stack([t + e, t - e]), theta, noise)


def twice(inner: Inner) -> Inner:
    """Two equal runs along a new leading axis."""
    return jax.tree.map(lambda x: jnp.stack([x, x]), inner)


def unroll_pair(
    estimator: GradientEstimator,
    data: Data,
    thetas: Theta,
    inner: Inner,
    key: PRNGKeyArray,
    step: MetaStep,
) -> tuple[Inner, Trajectory]:
    """One window of both halves in one program; leading axis 2 in and out.

    A run that goes on from an earlier state goes on from the first half's: both halves of a new run
    begin equal, since the noise of earlier runs is not credited with them.
    """
    inner = inner._replace(buffer=jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), inner.buffer))

    def half(theta: Theta, inner: Inner) -> tuple[Inner, Trajectory]:
        return unroll(estimator.episodes, data, theta, inner, key, step, estimator.length)

    return jax.vmap(half)(thetas, inner)


def tied(objective: Objective, trajectory: Trajectory) -> Float[Array, ""]:
    """1 where the halves of a pair met losses of the same worth at every step, else 0."""
    worth = objective.capped(trajectory)
    return jnp.all(worth[0] == worth[1]).astype(jnp.float32)


def along(noise: Theta, difference: Float[Array, ""], std: float) -> Theta:
    """The slope that a difference in loss between the halves of a pair stands for."""
    return jax.tree.map(lambda e: difference * e / (2.0 * std**2), noise)
