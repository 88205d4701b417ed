"""Mechanic: learns the factor of whatever learning rate the rule inside has."""

from typing import Any

import optax

from learned_opt.hand.hyperparameters import Hyperparameter
from learned_opt.hand.parts.base import Part


def _mechanize(
    inner: optax.GradientTransformation,
    weight_decay: Any = 1e-2,
    eps: Any = 1e-8,
    s_init: Any = 1e-3,
    num_betas: int = 6,
) -> optax.GradientTransformation:
    return optax.contrib.mechanize(inner, weight_decay, eps, s_init, num_betas)


PARTS = {
    "mechanize": Part(
        "outside",
        _mechanize,
        "learns a factor of the learning rate",
        "arXiv:2306.00144",
        ("params",),
        {"s_init": Hyperparameter("log", 1e-8, 1e-2, open=True)},
    )
}
