"""Steps in the size of the tensor they are for."""

from typing import Any

import optax

from learned_opt.hand.hyperparameters import Hyperparameter
from learned_opt.hand.parts.base import Mask, Part, masked


def _trust_ratio(
    trust_coefficient: Any = 1.0, eps: Any = 0.0, mask: Mask = "all"
) -> optax.GradientTransformation:
    """u * trust_coefficient norm(w) / (norm(u) + eps) per leaf; u where either norm is 0."""
    tx = optax.scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps)
    return masked(tx, mask)


PARTS = {
    "trust_ratio": Part(
        "step",
        _trust_ratio,
        "u * norm(w) / norm(u) per leaf",
        "arXiv:1708.03888",
        ("params",),
        {"trust_coefficient": Hyperparameter("log", 1e-4, 10.0, open=True)},
    )
}
