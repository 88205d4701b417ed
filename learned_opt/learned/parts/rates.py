"""The learning rate of every scalar, as a logarithm that drifts (1703.04813, section 3.4)."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.columns import Columns

SMALLEST_LOG_RATE = -33.0


def start_rates(
    columns: Columns,
    bounds: tuple[float, float],
    largest: float,
    key: PRNGKeyArray | None,
    learning_rate: Any,
    by_tensor: bool = True,
) -> Float[Array, " n"]:
    """Log rates: of learning_rate, else drawn with `key`, else the middle of the bounds.

    Drawn ones are log-uniform per scalar times log-uniform per tensor, both between the roots of
    the bounds; without by_tensor they are log-uniform per scalar. largest: of all log rates.
    """
    low, high = (0.5 * jnp.log(jnp.float32(rate)) for rate in bounds)
    if learning_rate is not None:
        log_rate = jnp.full(columns.total, jnp.log(jnp.asarray(learning_rate, jnp.float32)))
    elif key is None or not columns.sizes:
        log_rate = jnp.full(columns.total, low + high)
    elif not by_tensor:
        log_rate = jax.random.uniform(key, (columns.total,), minval=2.0 * low, maxval=2.0 * high)
    else:
        scalar_key, tensor_key = jax.random.split(key)
        scalars = jax.random.uniform(scalar_key, (columns.total,), minval=low, maxval=high)
        tensors = jax.random.uniform(tensor_key, (1, len(columns.sizes)), minval=low, maxval=high)
        log_rate = scalars + columns.spread(tensors)[0]
    return jnp.clip(log_rate, SMALLEST_LOG_RATE, largest)


def centre_rates(
    columns: Columns, log_rate: Float[Array, " n"] | None, of_problem: bool
) -> Float[Array, "1 t"]:
    """Mean log rate of each tensor, or of_problem that of all; 0 where there are none."""
    if log_rate is None:
        return jnp.zeros((1, len(columns.sizes)))
    if of_problem:
        return jnp.full((1, len(columns.sizes)), log_rate.mean())
    return columns.mean(log_rate[None])


def rate_inputs(
    row: Float[Array, "1 n"],
    centre: Float[Array, "1 n"],
    relative: bool,
    extreme: bool,
    plain: bool,
) -> list[Float[Array, "1 n"]]:
    """What scalars read of their log rate: above the centre, beyond 1e-6 .. 1, above 1e-3."""
    inputs = []
    if relative:
        inputs.append(row - centre)
    if extreme:
        inputs.append(jax.nn.relu(row) - jax.nn.relu(jnp.log(jnp.float32(1e-6)) - row))
    if plain:
        inputs.append(row - jnp.log(jnp.float32(1e-3)))
    return inputs


def step_rates(
    log_rate: Float[Array, " n"],
    change: Float[Array, " n"],
    momentum_logit: Float[Array, ""],
    largest: float,
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """The running mean, and the rate of this step, whose bounds let gradients through."""
    proposed = within_bounds(log_rate + change, largest)
    momentum = jax.nn.sigmoid(momentum_logit)
    return momentum * log_rate + (1.0 - momentum) * proposed, proposed


def within_bounds(log_rate: Float[Array, " n"], largest: float) -> Float[Array, " n"]:
    """Clipped to [-33, largest], with derivative 1 everywhere."""
    clipped = jnp.clip(log_rate, SMALLEST_LOG_RATE, largest)
    return log_rate + jax.lax.stop_gradient(clipped - log_rate)
