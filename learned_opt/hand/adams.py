"""AdamS: Adam with the stable kind of weight decay."""

from collections.abc import Mapping, Sequence
from typing import Any

import optax

from learned_opt.base import Horizon
from learned_opt.hand.assemble import Direction, Named
from learned_opt.hand.hyperparameters import Scalar
from learned_opt.hand.spec import HandDesigned


def adams(
    learning_rate: Any,
    horizon: Horizon = 1,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    weight_decay: Any = 5e-4,
    schedule: Named = "constant",
    parts: Sequence[Named] = (),
) -> optax.GradientTransformation:
    """Adam whose weight decay, if given as a number, is stable and averages with Adam's b2."""
    adam = Direction(lambda: optax.scale_by_adam(b1, b2, eps, eps_root))
    stable = {"kind": "stable", "value": weight_decay, "b2": b2}
    decay = weight_decay if isinstance(weight_decay, Mapping) else stable
    return adam(learning_rate, horizon, schedule=schedule, weight_decay=decay, parts=parts)


ENTRIES = (
    HandDesigned(
        "adams",
        adams,
        1e-3,
        source="arXiv:2011.11152",
        formula="adam, w <- w - rate * (u + weight_decay / sqrt(mean of v_hat over the model) * w)",
        needs=("params",),
    ),
)
