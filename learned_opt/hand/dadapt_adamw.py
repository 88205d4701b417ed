"""D-Adaptation: AdamW whose rate is an estimate of the distance to the solution."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from learned_opt.base import Params
from learned_opt.hand.assemble import Whole
from learned_opt.hand.hyperparameters import Scalar
from learned_opt.hand.prodigy import ESTIMATED, adam_correction, grown, scheduled
from learned_opt.hand.spec import HandDesigned


class DAdaptAdamWState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    mu: Params  # average of rate times gradient
    nu: Params  # average of squared gradients
    weighted: Params  # weighted sum of rate times gradient
    estimate: Float[Array, ""]  # d, the distance to the solution
    numerator: Float[Array, ""]


def dadapt_adamw(
    learning_rate: Any,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    estim_lr0: Scalar = 1e-6,
    weight_decay: Scalar = 0.0,
    bias_correction: bool = False,
) -> optax.GradientTransformation:
    """w <- (1 - weight_decay d k) w - EMA(d k g; b1) / (sqrt(v) + eps), k the rate.

    learning_rate: a multiplier around 1, or a schedule of it. estim_lr0: the first d.
    bias_correction: multiplies the rate by Adam's.
    """
    root = jnp.sqrt(b2)

    def init(params: Params) -> DAdaptAdamWState:
        zero = jnp.zeros((), optax.tree.dtype(params, "lowest"))
        mu, nu, weighted = (optax.tree.zeros_like(params) for _ in range(3))
        count = jnp.zeros((), jnp.int32)
        return DAdaptAdamWState(count, mu, nu, weighted, zero + estim_lr0, zero)

    def update(updates, state, params=None):
        count = state.count + 1
        rate = scheduled(learning_rate, state.count)
        rate = rate * adam_correction(b1, b2, count) if bias_correction else rate
        step = jnp.asarray(state.estimate * rate, state.estimate.dtype)
        scaled = jax.tree.map(lambda s, v: s / (jnp.sqrt(v) + eps), state.weighted, state.nu)
        numerator = root * state.numerator + (1 - root) * step * optax.tree.vdot(updates, scaled)
        steps = jax.tree.map(lambda g: step * g, updates)
        mu = optax.tree.update_moment(steps, state.mu, b1, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)
        weighted = optax.tree.update_moment(steps, state.weighted, root, 1)
        norm = (1 - root) * optax.tree.norm(weighted, ord=1)
        estimate = grown(state.estimate, numerator, norm)
        moved = jax.tree.map(
            lambda m, v, p: -m / (jnp.sqrt(v) + eps) - weight_decay * step * p, mu, nu, params
        )
        numerator = jnp.asarray(numerator, estimate.dtype)
        return moved, DAdaptAdamWState(count, mu, nu, weighted, estimate, numerator)

    return optax.GradientTransformation(init, update)


ENTRIES = (
    HandDesigned(
        "dadapt_adamw",
        Whole(dadapt_adamw),
        1.0,
        source="arXiv:2301.07733",
        formula="adamw at rate d, d = max(d, sum d <g, s / sqrt(v)> / ||s||_1), s = sum d g",
        needs=("params",),
        ranges=ESTIMATED,
    ),
)
