"""Schedule-free rules: the mean of the iterates, near which gradients are taken, replaces decay."""

from typing import Any

import jax.numpy as jnp
import optax

from learned_opt.hand.assemble import Whole
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.parts.base import check_count
from learned_opt.hand.parts.schedule_free import averaged
from learned_opt.hand.prodigy import scheduled
from learned_opt.hand.spec import HandDesigned


def schedule_free(
    direction: optax.GradientTransformation,
    learning_rate: Any,
    b1: Scalar,
    weight_lr_power: Scalar,
    warmup_steps: int,
) -> optax.GradientTransformation:
    """Descent along a direction, averaged; the first of the warm-up has 1 / warmup_steps of it."""
    if warmup_steps:
        check_count("warmup_steps", warmup_steps)

    def rate(count: Any) -> Any:
        warmth = jnp.minimum(1.0, (count + 1.0) / warmup_steps) if warmup_steps else 1.0
        return scheduled(learning_rate, count) * warmth

    steps = optax.chain(direction, optax.scale_by_learning_rate(rate))
    return averaged(steps, b1, rate, weight_lr_power)


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
