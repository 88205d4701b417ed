"""SM3: the second moment of a tensor kept as one maximum for each index of each axis."""

import jax
import jax.numpy as jnp
import optax

from learned_opt.hand.assemble import Direction
from learned_opt.hand.hyperparameters import Scalar
from learned_opt.hand.spec import HandDesigned


def scale_by_sm3(momentum: Scalar = 0.9, eps: Scalar = 1e-8) -> optax.GradientTransformation:
    """optax's, which has no place for tensors without axes: they are vectors of length one here.

    eps: within the root; the authors' is 1e-30.
    """
    inner = optax.scale_by_sm3(b1=momentum, eps=eps)

    def init(params):
        return inner.init(jax.tree.map(jnp.atleast_1d, params))

    def update(updates, state, params=None):
        del params
        found, state = inner.update(jax.tree.map(jnp.atleast_1d, updates), state)
        return jax.tree.map(lambda u, g: u.reshape(g.shape), found, updates), state

    return optax.GradientTransformation(init, update)


ENTRIES = (
    HandDesigned(
        "sm3",
        Direction(scale_by_sm3),
        1e-1,
        source="arXiv:1901.11150",
        formula="u = EMA(g / sqrt(n + eps); momentum), n = min over axes of their maxima, + g^2",
    ),
)
