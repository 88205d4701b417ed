"""Dozat's NAdam: Nesterov's momentum in Adam, with a momentum that rises over the run."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from learned_opt.base import Params
from learned_opt.hand.assemble import Direction
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.spec import HandDesigned


class NadamDozatState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    product: Float[Array, ""]  # of the momenta so far
    mu: Params  # average of gradients
    nu: Params  # average of squared gradients


def scale_by_nadam_dozat(
    b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8, momentum_decay: Scalar = 4e-3
) -> optax.GradientTransformation:
    """u = ((1 - k_t) g / (1 - K_t) + k_{t+1} m / (1 - K_{t+1})) / (sqrt(v_hat) + eps).

    k_t = b1 (1 - 0.96^(t momentum_decay) / 2), K_t their product up to t.
    """

    def init(params: Params) -> NadamDozatState:
        zeros = optax.tree.zeros_like
        return NadamDozatState(jnp.zeros((), jnp.int32), jnp.ones(()), zeros(params), zeros(params))

    def momentum(step: Array) -> Array:
        return b1 * (1 - 0.5 * 0.96 ** (step * momentum_decay))

    def update(updates, state, params=None):
        del params
        count = state.count + 1
        now, then = momentum(count), momentum(count + 1)
        product = jnp.asarray(state.product * now, state.product.dtype)
        fresh, kept = (1 - now) / (1 - product), then / (1 - product * then)
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)
        direction = jax.tree.map(
            lambda g, m, v: jnp.asarray((fresh * g + kept * m) / (jnp.sqrt(v) + eps), g.dtype),
            updates,
            mu,
            optax.tree.bias_correction(nu, b2, count),
        )
        return direction, NadamDozatState(count, product, mu, nu)

    return optax.GradientTransformation(init, update)


ENTRIES = (
    HandDesigned(
        "nadam_dozat",
        Direction(scale_by_nadam_dozat),
        1e-3,
        source="Dozat 2016",
        formula="u = ((1 - k_t) * g / (1 - K_t) + k_t+1 * m / (1 - K_t+1)) / (sqrt(v_hat) + eps)",
        ranges=(("momentum_decay", Hyperparameter("log", 4e-4, 4e-2)),),
    ),
)
