"""Losses of numbers that are guessed, where layers.LOSSES has those of classes."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float


def log_cosh(guess: Float[Array, "*n"], target: Float[Array, "*n"]) -> Float[Array, ""]:
    """Mean of log cosh of the difference: half its square near 0, its size less log 2 far off.

    Written so that rounding never takes it below 0.
    """
    difference = guess - target
    size = jnp.abs(difference)
    near = jnp.log1p(2 * jnp.sinh(jnp.clip(difference, -1, 1) / 2) ** 2)
    far = size + jnp.log1p(jnp.exp(-2 * size)) - math.log(2)
    return jnp.mean(jnp.where(size < 1, near, far))


def mse(guess: Float[Array, "*n"], target: Float[Array, "*n"]) -> Float[Array, ""]:
    return jnp.mean((guess - target) ** 2)


REGRESSION_LOSSES = {"log_cosh": log_cosh, "mse": mse}
