"""What the nominal output adds to `relative_adam`: directions to mix and their context."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_opt.anchors.base import EPS, SMALLEST_RMS, tensor_size as tensor_scale
from learned_opt.anchors.relative_adam import B2
from learned_opt.base import Horizon
from learned_opt.columns import Columns

MOMENTA = (0.9, 0.99, 0.0)
RATE = 0.1
LOG_STEP_RANGE = (-2.0, 1.5)
NUM_TENSOR_FEATURES = 8


class Moments(NamedTuple):
    """Adam's moments at the nominal rule's momenta, without bias correction."""

    mu: Float[Array, "2 n"]
    nu: Float[Array, " n"]


def step_moments(moments: Moments, gradient: Float[Array, " n"]) -> Moments:
    momenta = jnp.asarray(MOMENTA[:2])[:, None]
    return Moments(
        momenta * moments.mu + (1.0 - momenta) * gradient,
        B2 * moments.nu + (1.0 - B2) * jnp.square(gradient),
    )


def directions_of(
    moments: Moments, gradient: Float[Array, " n"], count: Int[Array, ""]
) -> list[Float[Array, "_ n"]]:
    """Adam's direction at momentum 0.9 and 0.99, and at 0, bias-corrected; count from 1."""
    momenta, steps = jnp.asarray(MOMENTA[:2])[:, None], count.astype(jnp.float32)
    inverse = 1.0 / (jnp.sqrt(moments.nu / (1.0 - B2**steps)) + EPS)
    return [moments.mu / (1.0 - momenta**steps) * inverse, (gradient * inverse)[None]]


def tensor_sizes(
    square: Float[Array, "1 t"], direction_squares: list[Float[Array, "_ t"]]
) -> tuple[Float[Array, "1 t"], Float[Array, "3 t"]]:
    """max(RMS(p), 0.05) of each tensor and the RMS of each of its directions, from mean squares."""
    size = jnp.sqrt(jnp.maximum(square, SMALLEST_RMS**2))
    return size, jnp.sqrt(jnp.concatenate(direction_squares) + EPS)


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


def nominal_move(
    columns: Columns,
    per_tensor: Float[Array, "6 t"],
    directions: list[Float[Array, "_ n"]],
    log_step: Float[Array, " n"],
    residual: Float[Array, " n"],
) -> Float[Array, " n"]:
    """The change of every scalar; per_tensor: log step, size, residual size, mixing weights."""
    averaged, raw = directions
    moves = []
    for group in columns.groups:
        at = group.columns
        shift, size, residual_size, *weights = columns.spread_in(group, per_tensor)
        direction = residual_size * residual[at]
        for weight, row in zip(weights, (*averaged, *raw), strict=True):
            direction = direction + weight * row[at]
        stretch = jnp.exp(jnp.clip(shift + log_step[at], *LOG_STEP_RANGE))
        moves.append(-size * stretch * direction)
    return jnp.concatenate(moves)


def nominal_tensor_move(
    param: Float[Array, " n"],
    directions: Float[Array, "3 n"],
    readout: Float[Array, "4"],
    log_step: Float[Array, " n"],
    residual: Float[Array, " n"],
) -> Float[Array, " n"]:
    """What the scalars of one tensor move by, against the gradient; schedule and rate are apart.

    readout: the tensor's log step and the changes of its mixing weights, (1, 0, 0) without them.
    """
    shift, *changes = readout
    weights = jnp.stack(changes).at[0].add(1.0)
    length = jnp.sqrt(jnp.mean(jnp.square(directions[0])) + EPS)
    stretch = jnp.exp(jnp.clip(shift + log_step, *LOG_STEP_RANGE))
    return tensor_scale(param) * stretch * (weights @ directions + length * residual)
