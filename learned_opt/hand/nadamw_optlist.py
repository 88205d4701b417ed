"""The NAdamW whose hyperparameters the lists of arXiv:2002.11887 are made of."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from learned_opt.base import Horizon, Params
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.spec import HandDesigned

_FRACTION = Hyperparameter("linear", 0.0, 0.999, most=1.0)


class NAdamWState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    mu: Params  # average of gradients
    nu: Params  # average of squared gradients


def nadamw_optlist(
    learning_rate: Scalar,
    horizon: Horizon = 10_000,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    l2: Scalar = 0.0,
    warmup_fraction: Scalar = 0.0,
    constant_fraction: Scalar = 0.5,
    final_fraction: Scalar = 0.0,
    nesterov: bool = True,
    published_l2: bool = False,
) -> optax.GradientTransformation:
    """w <- w - a (n / (sqrt(v) + eps) + weight_decay w), on gradients g + l2 w.

    a is the scheduled rate times sqrt(1 - b2^t) / (1 - b1^t); eps is added to a v that is not
    corrected; n = m, with `nesterov` b1 m + (1 - b1) g. published_l2: g - l2 w, as the published
    code has it, with which the published lists were searched.
    """
    sign = -1.0 if published_l2 else 1.0

    def init(params: Params) -> NAdamWState:
        zeros = optax.tree.zeros_like
        return NAdamWState(jnp.zeros((), jnp.int32), zeros(params), zeros(params))

    def update(updates, state, params=None):
        count = state.count + 1
        gradients = jax.tree.map(lambda g, w: g + sign * l2 * w, updates, params)
        mu = optax.tree.update_moment(gradients, state.mu, b1, 1)
        nu = optax.tree.update_moment(gradients, state.nu, b2, 2)
        fraction = fall(state.count, horizon, warmup_fraction, constant_fraction, final_fraction)
        rate = learning_rate * fraction * jnp.sqrt(1.0 - b2**count) / (1.0 - b1**count)

        def step(g, m, v, w):
            ahead = b1 * m + (1.0 - b1) * g if nesterov else m
            return -rate * (ahead / (jnp.sqrt(v) + eps) + weight_decay * w)

        return jax.tree.map(step, gradients, mu, nu, params), NAdamWState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def fall(
    count: Int[Array, ""],
    horizon: Horizon,
    warmup_fraction: Scalar,
    constant_fraction: Scalar,
    final_fraction: Scalar,
) -> Float[Array, ""]:
    """Factor of the rate: up from 0, level until constant_fraction, then a cosine down.

    count: updates made before this one. The fractions of time are of `horizon`; the warm-up ends
    when the level part does, if not before, as in the code the list was searched with; a later
    publication has it end no earlier than that. From `horizon` on the factor is final_fraction.
    """
    length = jnp.asarray(horizon, jnp.float32)
    step = jnp.minimum(jnp.asarray(count, jnp.float32), length)
    level, warmup = constant_fraction * length, warmup_fraction * length
    progress = jnp.maximum(step - level, 0.0) / (length - level)
    cosine = final_fraction + (1.0 - final_fraction) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
    warmup = jnp.minimum(warmup, level)
    return jnp.where(step < warmup, step / jnp.maximum(warmup, 1e-12), cosine)


ENTRIES = (
    HandDesigned(
        "nadamw_optlist",
        nadamw_optlist,
        1e-3,
        source="arXiv:2002.11887",
        formula="w <- w - rate_t (n / (sqrt(v) + eps) + weight_decay w) on g + l2 w",
        needs=("params",),
        ranges=(
            ("l2", Hyperparameter("log", 1e-5, 0.1)),
            ("warmup_fraction", Hyperparameter("log", 1e-5, 0.1, most=1.0)),
            ("constant_fraction", _FRACTION),
            ("final_fraction", Hyperparameter("log", 1e-5, 1.0)),
        ),
    ),
)
