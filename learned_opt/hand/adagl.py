"""AdaGL: Adam on a fractional difference of the gradients, damped where they stand still."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import Params
from learned_opt.hand.assemble import Direction
from learned_opt.hand.hyperparameters import Scalar
from learned_opt.hand.parts.gl_fractional import ALPHA, SOURCE, gl_fractional, latest
from learned_opt.hand.spec import HandDesigned


class AdaGLState(NamedTuple):
    past: Any  # GLFractionalState
    adam: Any  # of scale_by_adam


def scale_by_adagl(
    alpha: Scalar = 0.1,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    history: int = 10,
) -> optax.GradientTransformation:
    """u = (1.1 - 0.5 / (1 + |g - previous g|)) Adam's u for the difference of order alpha of g.

    alpha: above -1 and below 1; the paper's value is not known, 0.1 is this package's.
    """
    fractional, adam = gl_fractional(alpha, history), optax.scale_by_adam(b1, b2, eps)

    def init(params: Params) -> AdaGLState:
        return AdaGLState(fractional.init(params), adam.init(params))

    def update(updates, state, params=None):
        del params
        before = latest(state.past, history)
        difference, past = fractional.update(updates, state.past)
        direction, moments = adam.update(difference, state.adam)
        direction = jax.tree.map(
            lambda u, g, last: u * (1.1 - 0.5 / (1 + jnp.abs(g - last))), direction, updates, before
        )
        return direction, AdaGLState(past, moments)

    return optax.GradientTransformation(init, update)


ENTRIES = (
    HandDesigned(
        "adagl",
        Direction(scale_by_adagl),
        1e-3,
        source=SOURCE,
        formula="u = (1.1 - 0.5 / (1 + |g - g_before|)) * adam's u for sum_j c_j(alpha) g_t-j",
        ranges=(("alpha", ALPHA),),
    ),
)
