"""Generalised advantage estimation (1506.02438) for a reward that comes at the end."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def advantages(
    values: Float[Array, "pauses *episodes"], reward: Float[Array, "*episodes"], decay: float
) -> Float[Array, "pauses *episodes"]:
    """How much better every choice was than expected; adding `values` gives the returns.

    values: of the states in which the choices were made. decay: lambda; nothing is discounted.
    """
    surprise = jnp.concatenate([values[1:], reward[None]]) - values

    def backwards(later: Array, delta: Array):
        found = delta + decay * later
        return found, found

    _, found = jax.lax.scan(backwards, jnp.zeros_like(reward), surprise, reverse=True)
    return found
