"""Rules that are another rule with a part."""

from collections.abc import Sequence
from typing import Any

import optax

from learned_opt.base import Horizon
from learned_opt.hand.assemble import Direction, Named
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.spec import HandDesigned


def _adamw2(
    learning_rate: Any,
    horizon: Horizon = 1,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    tau: Scalar = 0.01,
    iterations: int = 2,
    weight_decay: Any = 0.0,
    schedule: Named = "constant",
    parts: Sequence[Named] = (),
):
    adam = Direction(lambda: optax.scale_by_adam(b1, b2, eps, eps_root))
    bounded = [*parts, {"name": "spectral_bound", "tau": tau, "iterations": iterations}]
    return adam(learning_rate, horizon, schedule=schedule, weight_decay=weight_decay, parts=bounded)


def _sam(
    learning_rate: Any,
    horizon: Horizon = 1,
    rho: Scalar = 0.05,
    momentum: Scalar = 0.9,
    weight_decay: Any = 0.0,
    schedule: Named = "constant",
    parts: Sequence[Named] = (),
):
    sgd = Direction(lambda: optax.trace(momentum))
    uphill = [{"name": "sam", "rho": rho}, *parts]
    return sgd(learning_rate, horizon, schedule=schedule, weight_decay=weight_decay, parts=uphill)


ENTRIES = (
    HandDesigned(
        "adamw2",
        _adamw2,
        1e-3,
        source="arXiv:2505.21910",
        formula="adamw, each matrix by min(1, tau s(w) / s(step)) of its step, s singular values",
        needs=("params",),
        ranges=(("tau", Hyperparameter("log", 1e-3, 0.1, open=True)),),
    ),
    HandDesigned(
        "sam",
        _sam,
        1e-2,
        source="arXiv:2010.01412",
        formula="sgd on the gradient at w + rho g / ||g||",
        needs=("params", "obj_fn"),
        ranges=(("rho", Hyperparameter("log", 1e-3, 1.0, open=True)),),
    ),
)
