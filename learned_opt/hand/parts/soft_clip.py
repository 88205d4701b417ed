"""Gradients no larger than the weights of their unit."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt.hand.hyperparameters import Hyperparameter
from learned_opt.hand.parts.base import Mask, Part, masked, units


def _adaptive_grad_clip(
    clipping: Any = 0.01, eps: Any = 1e-3, mask: Mask = "all"
) -> optax.GradientTransformation:
    """g * min(1, clipping max(norm(w), eps) / norm(g)) per output unit."""
    return masked(optax.adaptive_grad_clip(clipping, eps), mask)


def _soft_clip(floor: Any = 1e-3, mask: Mask = "all") -> optax.GradientTransformation:
    """g * min(r_g, r_w) / r_g per output unit, r = max(RMS, floor).

    With a tiny floor, tensors that start at 0 never move.
    """

    def clipped(g, w):
        square = lambda x: jnp.mean(jnp.square(x), axis=units(x), keepdims=True)
        gradient, weight = (jnp.sqrt(jnp.maximum(square(x), floor**2)) for x in (g, w))
        return g * jnp.asarray(jnp.minimum(gradient, weight) / gradient, g.dtype)

    tx = optax.stateless(lambda updates, params: jax.tree.map(clipped, updates, params))
    return masked(tx, mask)


PARTS = {
    "adaptive_grad_clip": Part(
        "gradient",
        _adaptive_grad_clip,
        "norm of each unit's gradient at most clipping times the norm of its weights (AGC)",
        "arXiv:2102.06171",
        ("params",),
    ),
    "soft_clip": Part(
        "gradient",
        _soft_clip,
        "RMS of each unit's gradient at most the RMS of its weights",
        needs=("params",),
        ranges={"floor": Hyperparameter("log", 1e-12, 1e-1, open=True)},
    ),
}
