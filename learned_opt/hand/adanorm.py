"""AdaNorm: gradients that have become small are lengthened to what they used to be."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from learned_opt.base import Params
from learned_opt.hand.assemble import Direction
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.spec import HandDesigned


class AdaNormState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    mu: Params  # average of lengthened gradients
    nu: Params  # average of squared gradients
    norm: Params  # average of the gradient's norm, a number for each leaf


def scale_by_adanorm(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    norm_decay: Scalar = 0.95,
    v_leak: bool = False,
) -> optax.GradientTransformation:
    """Adam, with g * max(1, EMA(norm(g); norm_decay) / norm(g)) in m but not in v.

    v_leak: v grows by eps at every step, as in the authors' code.
    """

    def init(params: Params) -> AdaNormState:
        zeros = optax.tree.zeros_like
        norm = jax.tree.map(lambda p: jnp.zeros((), p.dtype), params)
        return AdaNormState(jnp.zeros((), jnp.int32), zeros(params), zeros(params), norm)

    def update(updates, state, params=None):
        del params
        count = state.count + 1
        norms = jax.tree.map(lambda g: optax.safe_norm(g, 0.0), updates)
        norm = optax.tree.update_moment(norms, state.norm, norm_decay, 1)

        def lengthened(g, now, usual):
            return g * jnp.where(now > 0.0, jnp.maximum(1.0, usual / jnp.where(now > 0, now, 1)), 1)

        long = jax.tree.map(lengthened, updates, norms, norm)
        mu = optax.tree.update_moment(long, state.mu, b1, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)
        nu = jax.tree.map(lambda v: v + eps, nu) if v_leak else nu
        mu_hat = optax.tree.bias_correction(mu, b1, count)
        nu_hat = optax.tree.bias_correction(nu, b2, count)
        direction = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), mu_hat, nu_hat)
        return direction, AdaNormState(count, mu, nu, norm)

    return optax.GradientTransformation(init, update)


ENTRIES = (
    HandDesigned(
        "adanorm",
        Direction(scale_by_adanorm),
        1e-3,
        source="arXiv:2210.06364",
        formula="adam, m = EMA(g * max(1, EMA(norm(g); norm_decay) / norm(g)); b1)",
        ranges=(("norm_decay", Hyperparameter("one_minus", 0.5, 0.997, most=1.0)),),
    ),
)
