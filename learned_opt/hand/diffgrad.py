"""diffGrad: Adam with friction where the gradient has stopped changing."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from learned_opt.base import Params
from learned_opt.hand.assemble import Direction
from learned_opt.hand.hyperparameters import Scalar
from learned_opt.hand.spec import HandDesigned


class DiffGradState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    mu: Params  # average of gradients
    nu: Params  # average of squared gradients
    previous: Params  # the gradient before, 0 at first


def scale_by_diffgrad(
    b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8
) -> optax.GradientTransformation:
    """u = sigmoid(|g - previous g|) m_hat / ((sqrt(v) + eps) / sqrt(1 - b2^t))."""

    def init(params: Params) -> DiffGradState:
        zeros = optax.tree.zeros_like
        return DiffGradState(jnp.zeros((), jnp.int32), zeros(params), zeros(params), zeros(params))

    def update(updates, state, params=None):
        del params
        count = state.count + 1
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)
        root = jnp.sqrt(1 - b2**count)

        def one(g, before, m, v):
            return jax.nn.sigmoid(jnp.abs(g - before)) * m * root / (jnp.sqrt(v) + eps)

        mu_hat = optax.tree.bias_correction(mu, b1, count)
        direction = jax.tree.map(one, updates, state.previous, mu_hat, nu)
        return direction, DiffGradState(count, mu, nu, updates)

    return optax.GradientTransformation(init, update)


ENTRIES = (
    HandDesigned(
        "diffgrad",
        Direction(scale_by_diffgrad),
        1e-3,
        source="arXiv:1909.11015",
        formula="u = sigmoid(|g - g_before|) * adam's u",
    ),
)
