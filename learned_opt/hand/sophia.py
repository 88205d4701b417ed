"""Sophia: momentum over an estimate of the Hessian's diagonal, every entry clipped."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from learned_opt.base import Params
from learned_opt.hand.assemble import Direction
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.parts.base import check_count
from learned_opt.hand.spec import HandDesigned

SOURCE = "arXiv:2305.14342"
TINY = 1e-15  # the authors'


class SophiaGState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    mu: Params  # average of gradients
    hessian: Params  # average of squared sampled gradients


def scale_by_sophia_g(
    b1: Scalar = 0.965,
    b2: Scalar = 0.99,
    rho: Scalar = 0.04,
    batch_size: int = 1,
    update_interval: int = 10,
) -> optax.GradientTransformationExtraArgs:
    """u = sign(m) min(|m| / (rho batch_size h + 1e-15), 1), h = EMA(sampled_gradient^2; b2).

    batch_size: examples, or tokens, the sampled gradient is a mean over. h is renewed at the first
    update and every update_interval thereafter, before it is used; `sampled_gradient` is read then.
    """

    check_count("batch_size", batch_size)
    check_count("update_interval", update_interval)

    def init(params: Params) -> SophiaGState:
        zeros = optax.tree.zeros_like
        return SophiaGState(jnp.zeros((), jnp.int32), zeros(params), zeros(params))

    def update(updates, state, params=None, *, sampled_gradient: Any = None, **extra):
        del params, extra
        due = state.count % update_interval == 0
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        sampled = jax.tree.map(
            lambda s, h: jnp.asarray(s, h.dtype), sampled_gradient, state.hessian
        )
        renewed = optax.tree.update_moment(sampled, state.hessian, b2, 2)
        hessian = optax.tree.where(due, renewed, state.hessian)

        def one(m, h):
            size = jnp.minimum(jnp.abs(m) / (rho * batch_size * h + TINY), 1)
            return jnp.asarray(jnp.sign(m) * size, m.dtype)

        direction = jax.tree.map(one, mu, hessian)
        return direction, SophiaGState(state.count + 1, mu, hessian)

    return optax.GradientTransformationExtraArgs(init, update)


def scale_by_sophia_h(
    b1: Scalar = 0.965,
    b2: Scalar = 0.99,
    eps: Scalar = 1e-8,
    gamma: Scalar = 0.01,
    clip_threshold: Scalar = 1.0,
    update_interval: int = 10,
) -> optax.GradientTransformation:
    """optax's: u = clip(m_hat / max(gamma h, eps)), h from products with the Hessian.

    `obj_fn` is read every update_interval updates; h is used from the update after.
    """
    check_count("update_interval", update_interval)
    negative = optax.contrib.sophia(
        1.0,
        b1,
        b2,
        eps,
        weight_decay=0.0,
        gamma=gamma,
        clip_threshold=clip_threshold,
        update_interval=update_interval,
    )
    return optax.chain(negative, optax.scale(-1.0))


ENTRIES = (
    HandDesigned(
        "sophia_g",
        Direction(scale_by_sophia_g, weight_decay=0.1),
        1e-3,
        source=SOURCE,
        formula="u = clip(m / (rho * batch_size * h), 1), h = EMA(sampled_gradient^2; b2)",
        needs=("params", "sampled_gradient"),
        ranges=(("rho", Hyperparameter("log", 4e-3, 0.4, open=True)),),
    ),
    HandDesigned(
        "sophia_h",
        Direction(scale_by_sophia_h, weight_decay=1e-4),
        1e-3,
        source=SOURCE,
        formula="u = clip(m_hat / max(gamma * h, eps), 1), h = EMA(z * (H z); b2), z random signs",
        needs=("params", "obj_fn"),
        ranges=(
            ("gamma", Hyperparameter("log", 1e-3, 0.1, open=True)),
            ("clip_threshold", Hyperparameter("log", 0.1, 10.0, open=True)),
        ),
    ),
)
