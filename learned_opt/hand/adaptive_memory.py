"""Momentum that chooses how much to remember at every step, from a model of two planes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from learned_opt.base import Params
from learned_opt.hand.assemble import Direction, Whole
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.spec import HandDesigned

RANGES = (
    ("kappa", Hyperparameter("log", 1e-2, 1.0)),
    ("beta_max", Hyperparameter("one_minus", 0.5, 0.997, most=1.0)),
)


class AmSgdState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    memory: Params  # the direction before


def scale_by_am_sgd(
    kappa: Scalar = 0.1, beta_max: Scalar = 0.9
) -> optax.GradientTransformationExtraArgs:
    """u = ((beta + kappa) d + (1 - beta) g) / (1 + kappa), d the u before and at first g.

    beta = clip((|g|^2 + 2 kappa g.d - kappa |d|^2) / |d - g|^2, 0, beta_max), over the whole tree.
    """

    def init(params: Params) -> AmSgdState:
        return AmSgdState(jnp.zeros((), jnp.int32), optax.tree.zeros_like(params))

    def update(updates, state, params=None, **extra):
        del params, extra
        first = state.count == 0
        d = jax.tree.map(lambda g, d: jnp.where(first, g, d), updates, state.memory)
        gap = optax.tree.norm(optax.tree.sub(d, updates), squared=True)
        gain = (
            optax.tree.norm(updates, squared=True)
            + 2 * kappa * optax.tree.vdot(updates, d)
            - kappa * optax.tree.norm(d, squared=True)
        )
        beta = _clipped(gain, gap, beta_max)

        def one(g, d):
            return jnp.asarray(((beta + kappa) * d + (1 - beta) * g) / (1 + kappa), g.dtype)

        direction = jax.tree.map(one, updates, d)
        return direction, AmSgdState(state.count + 1, direction)

    return optax.GradientTransformationExtraArgs(init, update)


class AmAdamwState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    rate: Float[Array, ""]  # the learning rate before
    memory: Params  # d, an average of gradients
    nu: Params  # average of squared gradients
    product: Params  # of the betas so far, one number a leaf


def am_adamw(
    learning_rate: Scalar | Callable[[Any], Any],
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    kappa: Scalar = 0.1,
    beta_max: Scalar = 0.89,
    weight_decay: Scalar = 1e-4,
) -> optax.GradientTransformation:
    """AdamW whose momentum each leaf chooses: w <- (1 - rate * weight_decay) w - rate d / P.

    P = (1 - beta_max * product of the betas) (sqrt(v_hat) + eps); beta_max by default is
    0.9 - 0.1 kappa, and the first beta.
    """

    def init(params: Params) -> AmAdamwState:
        zeros = optax.tree.zeros_like
        ones = jax.tree.map(lambda p: jnp.ones((), p.dtype), params)
        return AmAdamwState(
            jnp.zeros((), jnp.int32), jnp.zeros(()), zeros(params), zeros(params), ones
        )

    def update(updates, state, params=None):
        count = state.count + 1
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        rate = jnp.asarray(rate, state.rate.dtype)
        ratio = jnp.where(rate > 0, state.rate / jnp.where(rate > 0, rate, 1), 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)

        def one(g, d, v, w, product):
            scale = (1 - beta_max * product) * (jnp.sqrt(v) + eps)
            inner = 1 / (scale * (1 + kappa * scale))
            gain = (1 + weight_decay * rate) * ratio * jnp.sum(g * (d / scale + weight_decay * w))
            gain -= jnp.sum((d - g) * ((g + kappa * scale * d) * inner + weight_decay * w))
            chosen = _clipped(gain, jnp.sum(jnp.square(d - g) * inner), beta_max)
            beta = jnp.where(count == 1, beta_max, chosen)
            new = ((1 - beta) * g + (kappa * scale + beta) * d) / (1 + kappa * scale)
            step = -rate * (new / scale + weight_decay * w)
            return tuple(jnp.asarray(x, g.dtype) for x in (step, new, product * beta))

        nu_hat = optax.tree.bias_correction(nu, b2, count)
        found = jax.tree.map(one, updates, state.memory, nu_hat, params, state.product)
        step, memory, product = jax.tree.transpose(
            jax.tree.structure(updates), jax.tree.structure((0, 0, 0)), found
        )
        return step, AmAdamwState(count, rate, memory, nu, product)

    return optax.GradientTransformation(init, update)


def _clipped(gain: Array, gap: Array, beta_max: Scalar) -> Array:
    """gain / gap between 0 and beta_max, 0 where there is no gap."""
    quotient = gain / jnp.where(gap > 0, gap, 1)
    return jnp.where(gap > 0, jnp.clip(quotient, 0, beta_max), 0)


ENTRIES = (
    HandDesigned(
        "am_sgd",
        Direction(scale_by_am_sgd),
        1e-2,
        source="arXiv:2510.04988",
        formula="u = ((beta + kappa) * u_before + (1 - beta) * g) / (1 + kappa), beta chosen",
        ranges=RANGES,
    ),
    HandDesigned(
        "am_adamw",
        Whole(am_adamw),
        1e-3,
        source="arXiv:2510.04988",
        formula="adamw whose b1 each leaf chooses: u = d / P + weight_decay * w",
        needs=("params",),
        ranges=RANGES,
    ),
)
