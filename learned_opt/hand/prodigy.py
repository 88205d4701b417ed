"""Prodigy: Adam whose rate is an estimate of the distance to the solution."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from learned_opt.base import Params
from learned_opt.hand.assemble import Whole
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.spec import HandDesigned

# Of every rule that estimates its rate: what the learning rate and the first estimate may be.
ESTIMATED = (
    ("learning_rate", Hyperparameter("log", 0.1, 10.0, open=True)),
    ("estim_lr0", Hyperparameter("log", 1e-8, 1e-2, open=True)),
)


class ProdigyState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    mu: Params  # average of d g
    nu: Params  # average of (d g)^2
    weighted: Params  # weighted sum of gradients
    start: Params  # the parameters before the first update
    estimate: Float[Array, ""]  # d, the distance to the solution
    numerator: Float[Array, ""]  # weighted sum of <g, start - w>


def prodigy(
    learning_rate: Any,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: Scalar | None = None,
    eps: Scalar = 1e-8,
    estim_lr0: Scalar = 1e-6,
    estim_lr_coef: Scalar = 1.0,
    weight_decay: Scalar = 0.0,
    safeguard_warmup: bool = False,
    bias_correction: bool = False,
) -> optax.GradientTransformation:
    """w <- (1 - weight_decay d k) w - d k m / (sqrt(v) + d eps), k the rate.

    learning_rate: a multiplier around 1, or a schedule of it. b3: decay of the sums, sqrt(b2) by
    default. estim_lr0: the first d. estim_lr_coef: multiplies estimates. safeguard_warmup: leaves
    the rate out of the denominator. bias_correction: multiplies the rate by Adam's.
    """
    b3 = jnp.sqrt(b2) if b3 is None else b3

    def init(params: Params) -> ProdigyState:
        zero = jnp.zeros((), optax.tree.dtype(params, "lowest"))
        mu, nu, weighted = (optax.tree.zeros_like(params) for _ in range(3))
        start = jax.tree.map(jnp.copy, params)
        count = jnp.zeros((), jnp.int32)
        return ProdigyState(count, mu, nu, weighted, start, zero + estim_lr0, zero)

    def update(updates, state, params=None):
        count = state.count + 1
        d = state.estimate
        rate = scheduled(learning_rate, state.count)
        rate = rate * adam_correction(b1, b2, count) if bias_correction else rate
        step = jnp.asarray(d * rate, d.dtype)
        share = d / estim_lr0 * (d if safeguard_warmup else step)
        scaled = jax.tree.map(lambda g: d * g, updates)
        mu = optax.tree.update_moment(scaled, state.mu, b1, 1)
        nu = optax.tree.update_moment(scaled, state.nu, b2, 2)
        weighted = jax.tree.map(lambda s, g: _kept(b3 * s + share * g, s), state.weighted, updates)
        progress = optax.tree.vdot(updates, optax.tree.sub(state.start, params))
        numerator = _kept(b3 * state.numerator + d / estim_lr0 * step * progress, d)
        estimate = grown(d, estim_lr_coef * numerator, optax.tree.norm(weighted, ord=1))
        moved = jax.tree.map(
            lambda m, v, p: _kept(
                -step * (m / (jnp.sqrt(v) + estimate * eps) + weight_decay * p), p
            ),
            mu,
            nu,
            params,
        )
        return moved, ProdigyState(count, mu, nu, weighted, state.start, estimate, numerator)

    return optax.GradientTransformation(init, update)


def scheduled(learning_rate: Any, count: Any) -> Any:
    """The rate at this update, of a number or a schedule."""
    return learning_rate(count) if callable(learning_rate) else learning_rate


def adam_correction(b1: Scalar, b2: Scalar, count: Any) -> Any:
    """sqrt(1 - b2^t) / (1 - b1^t): what corrects m / sqrt(v) for their zero start."""
    return jnp.sqrt(1 - b2**count) / (1 - b1**count)


def grown(estimate: Array, numerator: Any, denominator: Any) -> Array:
    """The larger of the estimate and the quotient; the estimate where nothing was measured yet."""
    measured = denominator > 0
    quotient = numerator / jnp.where(measured, denominator, 1.0)
    return _kept(jnp.where(measured, jnp.maximum(estimate, quotient), estimate), estimate)


def _kept(value: Any, like: Any) -> Array:
    return jnp.asarray(value, like.dtype)


ENTRIES = (
    HandDesigned(
        "prodigy",
        Whole(prodigy),
        1.0,
        source="arXiv:2306.06101",
        formula="adam at rate d, d = max(d, sum d^2 <g, w_0 - w> / ||sum d^2 g||_1)",
        needs=("params",),
        ranges=(*ESTIMATED, ("estim_lr_coef", Hyperparameter("log", 0.1, 10.0, open=True))),
    ),
)
