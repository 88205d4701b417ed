"""Normalised gradient descent with momentum: every step has the length of the rate."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from learned_opt.hand.assemble import Direction
from learned_opt.hand.hyperparameters import Scalar
from learned_opt.hand.spec import HandDesigned
from learned_opt.naming import check_name

SCOPES = ("leaf", "global")


def scale_by_nsgda(
    beta: Scalar = 0.9,
    eps: Scalar = 1e-8,
    scope: Literal["leaf", "global"] = "leaf",
    rms: bool = False,
) -> optax.GradientTransformation:
    """u = m_hat / (|m_hat| + eps), the norm of each leaf or of the whole tree.

    rms: u times the root of the number of entries, so that the rate is an RMS step of an entry.
    """
    check_name("scope", scope, SCOPES)

    def normalised(updates: Any, params: Any) -> Any:
        del params
        if scope == "leaf":
            return jax.tree.map(lambda u: u * _inverse([u], eps, rms), updates)
        factor = _inverse(jax.tree.leaves(updates), eps, rms)
        return jax.tree.map(lambda u: u * factor, updates)

    return optax.chain(optax.ema(beta, debias=True), optax.stateless(normalised))


def _inverse(leaves: list[jax.Array], eps: Scalar, rms: bool) -> jax.Array:
    norm = jnp.sqrt(jnp.asarray(sum(jnp.sum(jnp.square(leaf)) for leaf in leaves)))
    size = sum(leaf.size for leaf in leaves)
    return (math.sqrt(size) if rms else 1.0) / (norm + eps)


ENTRIES = (
    HandDesigned(
        "nsgda",
        Direction(scale_by_nsgda, weight_decay=1e-2, decay="l2"),
        1e-3,
        source="arXiv:2210.04319",
        formula="g <- g + weight_decay * w; u = m_hat / (norm(m_hat) + eps)",
        needs=("params",),
    ),
)
