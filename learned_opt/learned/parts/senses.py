"""What the hierarchical RNN's scalars remember of their gradients, and what they read of it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from learned_opt.learned.parts.features import arcsinh

FIXED_INPUT_DECAY = 0.89
FIXED_SCALE_DECAY = 0.93


class Senses(NamedTuple):
    """What each scalar remembers of its gradients; S timescales, N scalars."""

    average: Float[Array, "s n"]  # of the gradient
    square: Float[Array, "s n"]  # of the squared average
    input_logit: Float[Array, " n"] | None  # sigmoid = finest decay of `average`; None when fixed
    scale_logit: Float[Array, " n"] | None  # sigmoid = decay of `square`; None when fixed


def step_senses(
    senses: Senses, gradient: Float[Array, " n"], first: Bool[Array, ""], spread_scales: bool
) -> Senses:
    """New averages; the logits stay, they are chosen for the next step.

    first: at a run's first step averages copy what they see. spread_scales: squares are averaged at
    as many timescales as gradients, else all at one.
    """
    scales = senses.average.shape[0]
    halvings = 0.5 ** jnp.arange(scales, dtype=jnp.float32)[:, None]
    if scales == 1:
        average = gradient[None]
    else:
        decay = _decays(senses.input_logit, FIXED_INPUT_DECAY, halvings, first)
        average = (1.0 - decay) * gradient + decay * senses.average
    each = halvings if spread_scales else jnp.ones((1, 1))
    decay = _decays(senses.scale_logit, FIXED_SCALE_DECAY, each, first)
    square = (1.0 - decay) * (jnp.square(average) + 1e-12) + decay * senses.square
    return senses._replace(average=average, square=square)


def sense_inputs(senses: Senses, products: bool, log_squares: bool) -> list[Float[Array, "_ n"]]:
    """Scaled averages; products of neighbouring timescales; log squares relative to their mean."""
    scaled = arcsinh(senses.average * jax.lax.rsqrt(senses.square + 1e-16))
    inputs = [scaled]
    if products:
        inputs.append(scaled[:-1] * scaled[1:])
    if log_squares:
        log_square = jnp.log(senses.square + 1e-16)
        inputs.append(log_square - log_square.mean(axis=0))
    return inputs


def _decays(
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
