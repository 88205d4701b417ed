"""Steps sized by the distance from the start, from optax; the learning rate only multiplies."""

from typing import Any

import optax

from learned_opt.hand.assemble import Direction, Whole
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.spec import HandDesigned

_MULTIPLIER = ("learning_rate", Hyperparameter("log", 0.1, 10.0, open=True))


def _dog(init_step: Scalar = 1e-6, eps: Scalar = 1e-8):
    """init_step: the first distance, relative to 1 + ||w||."""
    return optax.chain(optax.contrib.dog(1.0, ("heuristic", init_step), eps), optax.scale(-1.0))


def _dowg(init_estim_sq_dist: Scalar = 1e-4, eps: Scalar = 1e-4):
    return optax.chain(optax.contrib.dowg(1.0, init_estim_sq_dist, eps), optax.scale(-1.0))


def _cocob(
    learning_rate: Any, alpha: Scalar = 100.0, eps: Scalar = 1e-8, weight_decay: Scalar = 0.0
):
    return optax.contrib.cocob(learning_rate, alpha, eps, weight_decay)


def _madgrad(
    learning_rate: Any, momentum: Scalar = 0.9, weight_decay: Scalar = 0.0, eps: Scalar = 1e-6
):
    fields: Any = {"momentum": momentum, "weight_decay": weight_decay, "eps": eps}
    return optax.contrib.madgrad(learning_rate, **fields)


ENTRIES = (
    HandDesigned(
        "dog",
        Direction(_dog),
        1.0,
        source="arXiv:2302.12022",
        formula="u = max_i ||w_i - w_0|| / sqrt(sum ||g||^2 + eps) g",
        needs=("params",),
        ranges=(_MULTIPLIER, ("init_step", Hyperparameter("log", 1e-8, 1e-2, open=True))),
    ),
    HandDesigned(
        "dowg",
        Direction(_dowg),
        1.0,
        source="arXiv:2305.16284",
        formula="u = r^2 / (sqrt(sum r^2 ||g||^2) + eps) g, r = max_i ||w_i - w_0||",
        needs=("params",),
        ranges=(_MULTIPLIER, ("init_estim_sq_dist", Hyperparameter("log", 1e-8, 1e-1, open=True))),
    ),
    HandDesigned(
        "cocob",
        Whole(_cocob),
        1.0,
        source="arXiv:1705.07795",
        formula="w = w_0 + C / (L max(G + L, alpha L)) (L + reward), C = -sum g, G = sum |g|",
        needs=("params",),
        ranges=(_MULTIPLIER, ("alpha", Hyperparameter("log", 10.0, 1e3, open=True))),
    ),
    HandDesigned(
        "madgrad",
        Whole(_madgrad),
        1e-2,
        source="arXiv:2101.11075",
        formula="w <- momentum w + (1 - momentum) (w_0 - sum l g / cbrt(sum l g^2)), l ~ sqrt(t)",
        needs=("params",),
    ),
)
