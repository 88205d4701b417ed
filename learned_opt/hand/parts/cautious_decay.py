"""Weight decay where it does not work against the step."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt.hand.parts.base import Mask, Part, masked


def _cautiously_decayed(
    value: Any = 1e-2, mask: Mask = "all", strict: bool = False
) -> optax.GradientTransformation:
    """u + value * 1[u * w >= 0] * w; strict: > 0."""

    def decayed(u, w):
        towards_zero = u * w > 0 if strict else u * w >= 0
        return u + jnp.asarray(value, u.dtype) * jnp.where(towards_zero, w, 0)

    tx = optax.stateless(lambda updates, params: jax.tree.map(decayed, updates, params))
    return masked(tx, mask)


DECAYS = {
    "cautious": Part(
        "step",
        _cautiously_decayed,
        "decoupled, where the step takes the weight towards 0 too: 1[u * w >= 0]",
        "arXiv:2510.12402",
        ("params",),
    )
}
