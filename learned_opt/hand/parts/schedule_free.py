"""Averaging in place of a schedule and of momentum."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from learned_opt.base import EvalPoint, Params
from learned_opt.hand.parts.base import Part


class ScheduleFreeState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    inner: optax.OptState
    z: Params  # where the steps go
    point: EvalPoint  # x, the mean of all z so far


def schedule_free(
    inner: optax.GradientTransformation, b1: Any = 0.9
) -> optax.GradientTransformationExtraArgs:
    """z takes the steps, x is their mean, gradients are asked for at (1 - b1) z + b1 x.

    For rules without momentum, at a constant rate: all steps weigh the same (arXiv:2405.15682).
    """
    inner = optax.with_extra_args_support(inner)

    def init(params: Params) -> ScheduleFreeState:
        copied = lambda: jax.tree.map(lambda p: jnp.array(p, copy=True), params)
        zero = jnp.zeros((), jnp.int32)
        return ScheduleFreeState(zero, inner.init(params), copied(), EvalPoint(copied()))

    def update(updates, state, params=None, **extra):
        count = state.count + 1
        updates, inner_state = inner.update(updates, state.inner, params, **extra)
        z = jax.tree.map(jnp.add, state.z, updates)
        x = jax.tree.map(
            lambda x, z: x + (z - x) / jnp.asarray(count, x.dtype), state.point.params, z
        )
        updates = jax.tree.map(
            lambda y, z, x: jnp.asarray((1.0 - b1) * z + b1 * x, y.dtype) - y, params, z, x
        )
        return updates, ScheduleFreeState(count, inner_state, z, EvalPoint(x))

    return optax.GradientTransformationExtraArgs(init, update)


PARTS = {
    "schedule_free": Part(
        "outside",
        schedule_free,
        "gradients between the weights and their mean, where it is evaluated",
        "arXiv:2405.15682",
        ("params",),
    )
}
