"""Steps sized by the norms of the tensors they move."""

from typing import Any

import optax

from learned_opt.hand.assemble import Whole
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.parts.base import masked
from learned_opt.hand.spec import HandDesigned


def _lars(
    learning_rate: Any,
    weight_decay: Scalar = 0.0,
    trust_coefficient: Scalar = 1e-3,
    eps: Scalar = 0.0,
    momentum: Scalar = 0.9,
    nesterov: bool = False,
    mask: str = "all",
):
    """mask: the leaves that decay and are scaled, one of parts.base.MASKS."""
    return optax.chain(
        masked(optax.add_decayed_weights(weight_decay), mask),
        masked(optax.scale_by_trust_ratio(0.0, trust_coefficient, eps), mask),
        optax.scale_by_learning_rate(learning_rate),
        optax.trace(momentum, nesterov),
    )


def _lamb(
    learning_rate: Any,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-6,
    eps_root: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    mask: str = "all",
):
    """mask: the leaves that decay and are scaled, one of parts.base.MASKS."""
    return optax.chain(
        optax.scale_by_adam(b1, b2, eps, eps_root),
        masked(optax.add_decayed_weights(weight_decay), mask),
        masked(optax.scale_by_trust_ratio(), mask),
        optax.scale_by_learning_rate(learning_rate),
    )


def _fromage(learning_rate: Any, min_norm: Scalar = 1e-6):
    return optax.fromage(learning_rate, min_norm)


ENTRIES = (
    HandDesigned(
        "lars",
        Whole(_lars),
        1.0,
        source="arXiv:1708.03888",
        formula="x = g + weight_decay w; u = momentum of trust_coefficient ||w|| / ||x|| x",
        needs=("params",),
        ranges=(
            ("learning_rate", Hyperparameter("log", 1e-2, 1e2, open=True)),
            ("trust_coefficient", Hyperparameter("log", 1e-4, 1e-1, open=True)),
        ),
    ),
    HandDesigned(
        "lamb",
        Whole(_lamb),
        1e-2,
        source="arXiv:1904.00962",
        formula="x = adam + weight_decay w; u = ||w|| / ||x|| x, decay inside the ratio",
        needs=("params",),
    ),
    HandDesigned(
        "fromage",
        Whole(_fromage),
        1e-2,
        source="arXiv:2002.03432",
        formula="w <- (w - rate ||w|| / ||g|| g) / sqrt(1 + rate^2)",
        needs=("params",),
        ranges=(("min_norm", Hyperparameter("log", 1e-8, 1e-2, open=True)),),
    ),
)
