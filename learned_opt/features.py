"""Gradient statistics that learned rules read."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_opt.columns import Columns


def decays(
    logit: Float[Array, " n"] | None, fixed: float, powers: Float[Array, "s 1"], first: Array
) -> Float[Array, "s n"]:
    """sigmoid(logit)^powers, or fixed^powers; 0 at the first step, which copies its input.

    Written over the logit, because x^(1/2) at x = 0 has no finite derivative in forward mode.
    """
    if logit is None:
        value = jnp.float32(fixed) ** powers
    else:
        value = jnp.exp(-powers * jax.nn.softplus(-logit))
    return jnp.where(first, 0.0, value)


def root_mean_square(columns: Columns, row: Float[Array, "1 n"]) -> Float[Array, "1 t"]:
    """sqrt(mean + 1e-16) per tensor; 1, with derivative 0, where the whole tensor is 0."""
    mean = columns.mean(jnp.square(row))
    return jnp.sqrt(jnp.where(mean > 0.0, mean, 1.0) + 1e-16)
