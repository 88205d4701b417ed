"""Steps sized by how far the loss is above its lower bound (Polyak), from optax."""

from typing import Any

import optax

from learned_opt.hand.assemble import Direction, Whole
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.spec import HandDesigned

_AROUND_ONE = ("learning_rate", Hyperparameter("log", 1e-2, 1e2, open=True))


def _polyak_sgd(max_learning_rate: Scalar = 1.0, f_min: Scalar = 0.0, eps: Scalar = 0.0):
    return optax.scale_by_polyak(f_min, max_learning_rate, eps, variant="sps+")


def _momo(
    learning_rate: Any,
    beta: Scalar = 0.9,
    lower_bound: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    adapt_lower_bound: bool = False,
):
    return optax.contrib.momo(learning_rate, beta, lower_bound, weight_decay, adapt_lower_bound)


def _momo_adam(
    learning_rate: Any,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    lower_bound: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    adapt_lower_bound: bool = False,
):
    return optax.contrib.momo_adam(
        learning_rate, b1, b2, eps, lower_bound, weight_decay, adapt_lower_bound
    )


ENTRIES = (
    HandDesigned(
        "polyak_sgd",
        Direction(_polyak_sgd),
        1.0,
        source="arXiv:2002.10542",
        formula="u = min(max(loss - f_min, 0) / (||g||^2 + eps), max_learning_rate) g",
        needs=("value",),
        ranges=(_AROUND_ONE, ("max_learning_rate", _AROUND_ONE[1])),
    ),
    HandDesigned(
        "momo",
        Whole(_momo),
        1.0,
        source="arXiv:2305.07583",
        formula="u = min(rate, (f_bar + <m, w> - gamma - lower_bound)_+ / ||m||^2) m",
        needs=("params", "value"),
        ranges=(_AROUND_ONE,),
    ),
    HandDesigned(
        "momo_adam",
        Whole(_momo_adam),
        1e-2,
        source="arXiv:2305.07583",
        formula="momo in the norm of adam's sqrt(v_hat) + eps",
        needs=("params", "value"),
    ),
)
