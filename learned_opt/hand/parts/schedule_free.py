"""Averaging in place of a schedule and of momentum."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from learned_opt.base import EvalPoint, Params
from learned_opt.hand.parts.base import Part


class ScheduleFreeState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    largest: Float[Array, ""]  # the largest rate so far
    total: Float[Array, ""]  # sum of the weights of all z
    inner: optax.OptState
    z: Params  # where the steps go
    point: EvalPoint  # x, the weighted mean of all z so far


def averaged(
    inner: optax.GradientTransformation,
    b1: Any,
    rate: Callable[[Any], Any] = lambda count: 1.0,
    weight_lr_power: Any = 2.0,
) -> optax.GradientTransformationExtraArgs:
    """z takes the steps, x is their mean, gradients are asked for at (1 - b1) z + b1 x.

    inner: the steps, with rate and sign. rate: of updates made before -> what the largest so far
    counts by; a z has its weight_lr_power as weight in the mean.
    """
    inner = optax.with_extra_args_support(inner)

    def init(params: Params) -> ScheduleFreeState:
        z, x = (jax.tree.map(jnp.copy, params) for _ in range(2))
        zero = jnp.zeros((), optax.tree.dtype(params, "lowest"))
        count = jnp.zeros((), jnp.int32)
        return ScheduleFreeState(count, zero, zero, inner.init(params), z, EvalPoint(x))

    def update(updates, state, params=None, **extra):
        largest = jnp.maximum(state.largest, jnp.asarray(rate(state.count), state.largest.dtype))
        weight = largest**weight_lr_power
        total = jnp.asarray(state.total + weight, state.total.dtype)
        share = jnp.where(total > 0.0, weight / jnp.where(total > 0.0, total, 1.0), 0.0)
        steps, inner_state = inner.update(updates, state.inner, params, **extra)
        z = jax.tree.map(jnp.add, state.z, steps)
        x = _between(state.point.params, z, share)
        updates = optax.tree.sub(_between(z, x, b1), params)
        count = state.count + 1
        return updates, ScheduleFreeState(count, largest, total, inner_state, z, EvalPoint(x))

    return optax.GradientTransformationExtraArgs(init, update)


def _between(start: Params, end: Params, share: Any) -> Params:
    return jax.tree.map(lambda a, b: a + jnp.asarray(share, a.dtype) * (b - a), start, end)


def schedule_free(
    inner: optax.GradientTransformation, b1: Any = 0.9
) -> optax.GradientTransformationExtraArgs:
    """For rules without momentum, at a constant rate: all steps weigh the same."""
    return averaged(inner, b1)


PARTS = {
    "schedule_free": Part(
        "outside",
        schedule_free,
        "gradients between the weights and their mean, where it is evaluated",
        "arXiv:2405.15682",
        ("params",),
    )
}
