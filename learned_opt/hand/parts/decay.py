"""Weight decay in its plain kinds."""

from typing import Any

import optax

from learned_opt.hand.parts.base import Mask, Part, masked


def _decayed(value: Any = 1e-2, mask: Mask = "all") -> optax.GradientTransformation:
    return masked(optax.add_decayed_weights(value), mask)


DECAYS = {
    "decoupled": Part(
        "step", _decayed, "w <- w - rate * value * w", "arXiv:1711.05101", ("params",)
    ),
    "independent": Part(
        "step",
        _decayed,
        "w <- w - value * w, times the schedule but not the learning rate",
        "arXiv:1711.05101",
        ("params",),
    ),
    "l2": Part("gradient", _decayed, "value * w added to the gradient", needs=("params",)),
}
