"""The rules that optax has and has right, under its own names for their hyperparameters."""

import optax

from learned_opt.hand.assemble import Direction
from learned_opt.hand.hyperparameters import Scalar
from learned_opt.hand.spec import HandDesigned


def _adam(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8, eps_root: Scalar = 0.0):
    return optax.scale_by_adam(b1, b2, eps, eps_root)


def _sgd(momentum: Scalar = 0.9, nesterov: bool = False):
    return optax.trace(momentum, nesterov)


def _rmsprop(decay: Scalar = 0.9, eps: Scalar = 1e-8):
    return optax.scale_by_rms(decay, eps)


ENTRIES = (
    HandDesigned(
        "adam",
        Direction(_adam),
        1e-3,
        source="arXiv:1412.6980",
        formula="u = m_hat / (sqrt(v_hat + eps_root) + eps)",
    ),
    HandDesigned(
        "adamw",
        Direction(_adam, weight_decay=1e-4),
        1e-3,
        source="arXiv:1711.05101",
        formula="adam, w <- w - rate * (u + weight_decay * w)",
        needs=("params",),
    ),
    HandDesigned(
        "sgd",
        Direction(_sgd),
        1e-2,
        source="Polyak 1964",
        formula="b <- momentum * b + g; u = b, or g + momentum * b with nesterov",
    ),
    HandDesigned(
        "rmsprop",
        Direction(_rmsprop),
        1e-3,
        source="Hinton 2012",
        formula="v = EMA(g^2; decay); u = g / sqrt(v + eps)",
    ),
)
