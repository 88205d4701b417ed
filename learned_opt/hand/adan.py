"""Adan: Nesterov's momentum from differences of gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from learned_opt.base import Params
from learned_opt.hand.assemble import RateState, Whole
from learned_opt.hand.hyperparameters import Scalar
from learned_opt.hand.spec import HandDesigned


class AdanState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    mu: Params  # average of gradients
    difference: Params  # average of g - previous g
    nu: Params  # average of (g + b2 (g - previous g))^2
    previous: Params  # the gradient before


def scale_by_adan(
    b1: Scalar = 0.98, b2: Scalar = 0.92, b3: Scalar = 0.99, eps: Scalar = 1e-8
) -> optax.GradientTransformation:
    """u = (m_hat + b2 d_hat) / (sqrt(n_hat) + eps), with averages m of g and d of its differences.

    The averages keep b of what they had, so b1, b2 and b3 are one minus the paper's. The first
    difference is zero. optax.adan has (1 - b2) where b2 belongs.
    """

    def init(params: Params) -> AdanState:
        zeros = optax.tree.zeros_like
        return AdanState(
            jnp.zeros((), jnp.int32), zeros(params), zeros(params), zeros(params), zeros(params)
        )

    def update(updates, state, params=None):
        del params
        count = state.count + 1
        first = state.count == 0
        change = jax.tree.map(
            lambda g, before: jnp.where(first, 0, g - before), updates, state.previous
        )
        ahead = jax.tree.map(lambda g, d: g + b2 * d, updates, change)
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        difference = optax.tree.update_moment(change, state.difference, b2, 1)
        nu = optax.tree.update_moment(ahead, state.nu, b3, 2)
        direction = jax.tree.map(
            lambda m, d, n: (m + b2 * d) / (jnp.sqrt(n) + eps),
            optax.tree.bias_correction(mu, b1, count),
            optax.tree.bias_correction(difference, b2, count),
            optax.tree.bias_correction(nu, b3, count),
        )
        return direction, AdanState(count, mu, difference, nu, updates)

    return optax.GradientTransformation(init, update)


def _proximal(
    learning_rate: Scalar | Callable[[Any], Any], weight_decay: Scalar
) -> optax.GradientTransformation:
    """u -> the step from w to (w - rate u) / (1 + rate weight_decay)."""

    def init(params: Params) -> RateState:
        del params
        return RateState(jnp.zeros((), jnp.int32))

    def update(updates, state, params=None):
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        shrink = rate / (1 + rate * weight_decay)
        step = jax.tree.map(
            lambda u, p: jnp.asarray(-shrink * (u + weight_decay * p), u.dtype), updates, params
        )
        return step, RateState(state.count + 1)

    return optax.GradientTransformation(init, update)


def adan(
    learning_rate: Scalar | Callable[[Any], Any],
    b1: Scalar = 0.98,
    b2: Scalar = 0.92,
    b3: Scalar = 0.99,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    no_prox: bool = False,
) -> optax.GradientTransformation:
    """Adan, its weight decay proximal or, with no_prox, decoupled."""
    direction = scale_by_adan(b1, b2, b3, eps)
    if not no_prox:
        return optax.chain(direction, _proximal(learning_rate, weight_decay))
    return optax.chain(
        direction,
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


ENTRIES = (
    HandDesigned(
        "adan",
        Whole(adan),
        1e-3,
        source="arXiv:2208.06677",
        formula="u = (m_hat + b2 * d_hat) / (sqrt(n_hat) + eps); "
        "w <- (w - rate * u) / (1 + rate * weight_decay)",
        needs=("params",),
    ),
)
