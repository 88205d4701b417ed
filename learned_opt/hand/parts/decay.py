"""Weight decay."""

from typing import Any

import optax

from learned_opt.hand.parts.base import Part, masked


def _decayed(value: Any = 1e-2, mask: str = "all") -> optax.GradientTransformation:
    return masked(optax.add_decayed_weights(value), mask)


PARTS = {
    "decoupled": Part(
        "step", _decayed, "w <- w - rate * value * w", "arXiv:1711.05101", decay=True
    ),
    "l2": Part("gradient", _decayed, "value * w added to the gradient", decay=True),
}
