"""Gradients of length 1."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt.hand.parts.base import Part
from learned_opt.naming import check_name

SCOPES = ("leaf", "global")


def _normalize(scope: str = "leaf", eps: Any = 1e-8) -> optax.GradientTransformation:
    """g / (norm(g) + eps), the norm of each leaf or of the whole tree."""
    check_name("parts.normalize.scope", scope, SCOPES)
    if scope == "global":
        return optax.normalize_by_update_norm(eps=eps)

    def normalized(g):
        return g / jnp.asarray(optax.safe_norm(g, 0.0) + eps, g.dtype)

    return optax.stateless(lambda updates, params: jax.tree.map(normalized, updates))


PARTS = {"normalize": Part("gradient", _normalize, "gradients of length 1, by leaf or in all")}
