"""Schedule-free: an average of the iterates, near which gradients are taken, replaces decay."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from learned_opt.base import EvalPoint, Params
from learned_opt.hand.assemble import Whole
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.prodigy import scheduled
from learned_opt.hand.spec import HandDesigned


class ScheduleFreeState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    largest: Float[Array, ""]  # the largest rate so far
    total: Float[Array, ""]  # sum of the weights of all iterates
    iterate: Params  # z, where the base steps lead
    average: EvalPoint  # x, the weighted mean of the iterates
    base: Any  # of the direction


def schedule_free(
    direction: optax.GradientTransformation,
    learning_rate: Any,
    b1: Scalar = 0.9,
    weight_lr_power: Scalar = 2.0,
    warmup_steps: int = 0,
) -> optax.GradientTransformation:
    """y = (1 - b1) z + b1 x has the gradient; z <- z - rate u; x <- (1 - c) x + c z.

    direction: gradient -> u. learning_rate: a number or a schedule; warms up linearly over
    `warmup_steps` updates, the first of which has 1 / warmup_steps of it. c is (largest rate so
    far)^weight_lr_power over the sum of those. The parameters are y; x is found by eval_params.
    """

    def init(params: Params) -> ScheduleFreeState:
        zero = jnp.zeros((), optax.tree.dtype(params, "lowest"))
        iterate, average = (jax.tree.map(jnp.copy, params) for _ in range(2))
        base = direction.init(params)
        count = jnp.zeros((), jnp.int32)
        return ScheduleFreeState(count, zero, zero, iterate, EvalPoint(average), base)

    def update(updates, state, params=None):
        count = state.count + 1
        warmth = jnp.minimum(1.0, (state.count + 1.0) / warmup_steps) if warmup_steps else 1.0
        rate = jnp.asarray(scheduled(learning_rate, state.count) * warmth, state.total.dtype)
        largest = jnp.maximum(state.largest, rate)
        weight = largest**weight_lr_power
        total = jnp.asarray(state.total + weight, state.total.dtype)
        share = jnp.where(total > 0, weight / jnp.where(total > 0, total, 1.0), 0.0)
        steps, base = direction.update(updates, state.base, params)
        iterate = jax.tree.map(
            lambda z, u: z - jnp.asarray(rate * u, z.dtype), state.iterate, steps
        )
        average = _between(state.average.params, iterate, share)
        point = _between(iterate, average, b1)
        state = ScheduleFreeState(count, largest, total, iterate, EvalPoint(average), base)
        return optax.tree.sub(point, params), state

    return optax.GradientTransformation(init, update)


def _between(start: Params, end: Params, share: Any) -> Params:
    return jax.tree.map(lambda a, b: jnp.asarray((1 - share) * a + share * b, a.dtype), start, end)


def _schedule_free_adamw(
    learning_rate: Any,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    weight_lr_power: Scalar = 2.0,
    warmup_steps: int = 0,
):
    direction = optax.chain(
        optax.scale_by_rms(b2, eps, eps_in_sqrt=False, bias_correction=True),
        optax.add_decayed_weights(weight_decay),
    )
    return schedule_free(direction, learning_rate, b1, weight_lr_power, warmup_steps)


def _schedule_free_sgd(
    learning_rate: Any,
    b1: Scalar = 0.9,
    weight_decay: Scalar = 0.0,
    weight_lr_power: Scalar = 2.0,
    warmup_steps: int = 0,
):
    direction = optax.add_decayed_weights(weight_decay)
    return schedule_free(direction, learning_rate, b1, weight_lr_power, warmup_steps)


_POWER = ("weight_lr_power", Hyperparameter("linear", 0.0, 4.0))
ENTRIES = (
    HandDesigned(
        "schedule_free_adamw",
        Whole(_schedule_free_adamw),
        2.5e-3,
        source="arXiv:2405.15682",
        formula="z <- z - rate (g / (sqrt(v_hat) + eps) + weight_decay y), x the mean of z",
        needs=("params",),
        ranges=(_POWER,),
    ),
    HandDesigned(
        "schedule_free_sgd",
        Whole(_schedule_free_sgd),
        1e-2,
        source="arXiv:2405.15682",
        formula="z <- z - rate (g + weight_decay y), x the mean of z, y = (1 - b1) z + b1 x",
        needs=("params",),
        ranges=(_POWER, ("learning_rate", Hyperparameter("log", 1e-3, 10.0, open=True))),
    ),
)
