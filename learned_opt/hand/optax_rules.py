"""Rules from optax that scale a gradient by its history or take its sign."""

import optax

from learned_opt.hand.assemble import Direction
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.spec import HandDesigned


def _sgd(momentum: Scalar = 0.9, nesterov: bool = False):
    return optax.trace(momentum, nesterov)


def _rmsprop(decay: Scalar = 0.9, eps: Scalar = 1e-8):
    return optax.scale_by_rms(decay, eps)


def _adagrad(initial_accumulator_value: Scalar = 0.1, eps: Scalar = 1e-7):
    return optax.scale_by_rss(initial_accumulator_value, eps)


def _adadelta(rho: Scalar = 0.9, eps: Scalar = 1e-6):
    return optax.scale_by_adadelta(rho, eps)


def _lion(b1: Scalar = 0.9, b2: Scalar = 0.99):
    return optax.scale_by_lion(b1, b2)


def _signum(beta: Scalar = 0.9):
    return optax.chain(optax.ema(beta, debias=False), optax.scale_by_sign())


def _rprop(
    eta_minus: Scalar = 0.5,
    eta_plus: Scalar = 1.2,
    min_step_size: Scalar = 1e-6,
    max_step_size: Scalar = 50.0,
):
    """Step sizes start at 1 and are, as their bounds, in units of the learning rate."""
    return optax.scale_by_rprop(1.0, eta_minus, eta_plus, min_step_size, max_step_size)


ENTRIES = (
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
    HandDesigned(
        "adagrad",
        Direction(_adagrad),
        1e-1,
        source="Duchi et al. 2011",
        formula="u = g / sqrt(initial_accumulator_value + sum g^2 + eps)",
        ranges=(("initial_accumulator_value", Hyperparameter("log", 1e-6, 1.0)),),
    ),
    HandDesigned(
        "adadelta",
        Direction(_adadelta),
        1.0,
        source="arXiv:1212.5701",
        formula="u = g sqrt(EMA(u^2; rho) + eps) / sqrt(EMA(g^2; rho) + eps)",
        ranges=(
            ("learning_rate", Hyperparameter("log", 1e-2, 1e2, open=True)),
            ("rho", Hyperparameter("one_minus", 0.5, 0.999, most=1.0)),
        ),
    ),
    HandDesigned(
        "lion",
        Direction(_lion, weight_decay=1e-3),
        3e-4,
        source="arXiv:2302.06675",
        formula="u = sign(b1 m + (1 - b1) g), then m <- EMA(g; b2)",
        needs=("params",),
    ),
    HandDesigned(
        "sign_sgd",
        Direction(optax.scale_by_sign),
        1e-3,
        source="arXiv:1802.04434",
        formula="u = sign(g)",
    ),
    HandDesigned(
        "signum",
        Direction(_signum),
        1e-3,
        source="arXiv:1802.04434",
        formula="u = sign(EMA(g; beta))",
    ),
    HandDesigned(
        "rprop",
        Direction(_rprop),
        1e-3,
        source="Riedmiller and Braun 1993",
        formula="u = s sign(g), s times eta_plus where g keeps its sign, eta_minus where it turns",
        ranges=(
            ("eta_minus", Hyperparameter("linear", 0.2, 0.9, most=1.0, open=True)),
            ("eta_plus", Hyperparameter("linear", 1.05, 2.0, least=1.0)),
            ("min_step_size", Hyperparameter("log", 1e-9, 1e-3)),
            ("max_step_size", Hyperparameter("log", 1.0, 1e3)),
        ),
    ),
)
