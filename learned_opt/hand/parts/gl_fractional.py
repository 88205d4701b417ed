"""Fractional differences of the gradients (Gruenwald and Letnikov)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from learned_opt.base import Params
from learned_opt.hand.hyperparameters import Hyperparameter
from learned_opt.hand.parts.base import Part, check_count

SOURCE = "doi:10.1007/s11063-024-11571-7"
ALPHA = Hyperparameter("linear", -0.3, 0.5, least=-1.0, most=1.0)


class GLFractionalState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    past: Params  # the last gradients, [history, ...] a leaf, the one of update i at i % history


def coefficients(alpha: Any, history: int) -> Float[Array, " n"]:
    """c_0 = 1, c_j = c_{j-1} (1 - (1 + alpha) / j), for j up to `history`."""
    factors = 1 - (1 + alpha) / jnp.arange(1, history + 1)
    return jnp.concatenate([jnp.ones(1, factors.dtype), jnp.cumprod(factors)])


def latest(state: GLFractionalState, history: int) -> Params:
    """The gradient of the update before, 0 where there was none."""
    return jax.tree.map(lambda past: past[(state.count - 1) % history], state.past)


def gl_fractional(alpha: Any = 0.1, history: int = 10) -> optax.GradientTransformation:
    """g -> sum_j c_j g_{t-j}: order 0 leaves g as it is, 1 takes differences, below 0 integrates.

    alpha: the order, above -1; 0.1 takes a quarter off the part of g that does not change, 0.9
    nearly all. history: past gradients kept; those before the first count as zero.
    """
    check_count("history", history)

    def init(params: Params) -> GLFractionalState:
        past = jax.tree.map(lambda p: jnp.zeros((history, *p.shape), p.dtype), params)
        return GLFractionalState(jnp.zeros((), jnp.int32), past)

    def update(updates, state, params=None):
        del params
        c = coefficients(alpha, history)
        age = (state.count - 1 - jnp.arange(history)) % history
        weights = c[1:][age]

        def one(g, past):
            return g + jnp.tensordot(jnp.asarray(weights, past.dtype), past, axes=1)

        def kept(g, past):
            return past.at[state.count % history].set(g)

        past = jax.tree.map(kept, updates, state.past)
        found = jax.tree.map(one, updates, state.past)
        return found, GLFractionalState(state.count + 1, past)

    return optax.GradientTransformation(init, update)


PARTS = {
    "gl_fractional": Part(
        "gradient",
        gl_fractional,
        "a difference of fractional order alpha of gradients",
        SOURCE,
        ranges={"alpha": ALPHA},
    )
}
