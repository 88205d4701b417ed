"""What the nominal output adds to `relative_adam`: directions to mix and their context."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_opt.base import Horizon
from learned_opt.columns import Columns
from learned_opt.hand.relative_adam import B2, EPS, SMALLEST_RMS

MOMENTA = (0.9, 0.99, 0.0)
RATE = 0.1
LOG_STEP_RANGE = (-2.0, 1.5)
NUM_TENSOR_FEATURES = 8


class Moments(NamedTuple):
    """Adam's moments at the nominal rule's momenta, without bias correction."""

    mu: Float[Array, "2 n"]
    nu: Float[Array, " n"]


def directions_of(
    moments: Moments, gradient: Float[Array, " n"], count: Int[Array, ""]
) -> tuple[Moments, Float[Array, "3 n"]]:
    """Adam's direction at momentum 0.9, 0.99 and 0, bias-corrected; count from 1."""
    momenta = jnp.asarray(MOMENTA[:2])[:, None]
    mu = momenta * moments.mu + (1.0 - momenta) * gradient
    nu = B2 * moments.nu + (1.0 - B2) * jnp.square(gradient)
    steps = count.astype(jnp.float32)
    corrected = jnp.concatenate([mu / (1.0 - momenta**steps), gradient[None]])
    directions = corrected / (jnp.sqrt(nu / (1.0 - B2**steps)) + EPS)
    return Moments(mu, nu), directions


def tensor_sizes(
    columns: Columns, row: Float[Array, " n"], directions: Float[Array, "3 n"]
) -> tuple[Float[Array, "1 t"], Float[Array, "3 t"]]:
    """max(RMS(p), 0.05) of each tensor, and the RMS of each of its directions."""
    squares = columns.mean(jnp.square(jnp.concatenate([row[None], directions])))
    size = jnp.sqrt(jnp.maximum(squares[:1], SMALLEST_RMS**2))
    return size, jnp.sqrt(squares[1:] + EPS)


def tensor_features(
    columns: Columns,
    size: Float[Array, "1 t"],
    lengths: Float[Array, "3 t"],
    count: Int[Array, ""],
    horizon: Horizon,
) -> list[Float[Array, "f t"]]:
    """What a tensor's GRU reads besides its scalars: time, the tensor's scale and shape, noise."""
    tensors = len(columns.sizes)
    steps = jnp.asarray(horizon, jnp.float32)
    progress = jnp.minimum(count / steps, 1.0)
    clock = jnp.stack([progress, jnp.square(progress), 0.2 * jnp.log(steps) - 1.0])
    scalars = 0.2 * jnp.log(jnp.asarray(columns.sizes, jnp.float32)) - 1.0
    return [
        jnp.broadcast_to(clock[:, None], (3, tensors)),
        scalars[None],
        0.5 * jnp.log(size),
        jnp.log(lengths + 1e-3),
    ]
