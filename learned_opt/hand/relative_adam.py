"""The nominal rule: Adam's direction, sized relative to each tensor, under a fixed schedule."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from learned_opt.base import Horizon, Params
from learned_opt.columns import is_trained, refuse_complex, tame
from learned_opt.hand.hyperparameters import Scalar
from learned_opt.hand.spec import HandDesigned

WARMUP_FRACTION = 0.03
FINAL_SCALE = 0.02
SMALLEST_RMS = 0.05
B2 = 0.99
EPS = 1e-12


class RelativeAdamState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    mu: Params  # float32 average of gradients, per leaf
    nu: Params  # float32 average of squared gradients, per leaf


def nominal_schedule(count: Any, horizon: Horizon) -> Float[Array, "..."]:
    """s(t): linear warm-up over W = max(1, floor(0.03 T)) steps, then a cosine from 1 to 0.02.

    count: updates made before this one, from 0. horizon: T, at least 1. From T on it stays at 0.02.
    """
    horizon = jnp.asarray(horizon, jnp.float32)
    count = jnp.asarray(count, jnp.float32)
    warmup = jnp.maximum(1.0, jnp.floor(WARMUP_FRACTION * horizon))
    progress = jnp.clip((count - warmup) / jnp.maximum(horizon - warmup, 1.0), 0.0, 1.0)
    decayed = FINAL_SCALE + (1.0 - FINAL_SCALE) * (1.0 + jnp.cos(jnp.pi * progress)) / 2.0
    scale = jnp.where(count < warmup, (count + 1.0) / warmup, decayed)
    return jnp.where(count >= horizon, FINAL_SCALE, scale)


def tensor_scale(param: ArrayLike) -> Float[Array, ""]:
    """max(RMS(p), 0.05): the size a step on this tensor is relative to."""
    mean_square = jnp.mean(jnp.square(jnp.asarray(param, jnp.float32)))
    return jnp.sqrt(jnp.maximum(mean_square, SMALLEST_RMS**2))


def relative_adam(
    learning_rate: float | Array = 0.1, horizon: Horizon = 1, b1: Scalar = 0.9
) -> optax.GradientTransformation:
    """p <- p - learning_rate s(t) max(RMS(p), 0.05) m_hat / (sqrt(v_hat) + 1e-12).

    learning_rate: relative step, 0.1 by default and meant to be left alone. horizon: T of the
    schedule, at least 1. Moments are Adam's, bias-corrected, with b2 = 0.99, in float32 whatever
    the parameters are. Non-finite gradient entries count as zero; integer leaves never move.
    Complex leaves raise ValueError.
    """

    def init(params: Params) -> RelativeAdamState:
        refuse_complex(params)

        # Made twice: a state whose leaves share buffers could not be donated.
        def zeros() -> Params:
            return jax.tree.map(lambda p: jnp.zeros(jnp.shape(p), jnp.float32), params)

        return RelativeAdamState(jnp.zeros((), jnp.int32), zeros(), zeros())

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("relative_adam sizes its step by the parameters: pass params=")
        count = state.count + 1
        gradients = jax.tree.map(_own_gradient, updates, params)
        mu = optax.tree.update_moment(gradients, state.mu, b1, 1)
        nu = optax.tree.update_moment(gradients, state.nu, B2, 2)
        mu_hat = optax.tree.bias_correction(mu, b1, count)
        nu_hat = optax.tree.bias_correction(nu, B2, count)
        step = learning_rate * nominal_schedule(state.count, horizon)
        updates = jax.tree.map(
            lambda p, m, v: (-step * tensor_scale(p) * m / (jnp.sqrt(v) + EPS)).astype(p.dtype),
            params,
            mu_hat,
            nu_hat,
        )
        return updates, RelativeAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def _own_gradient(gradient: ArrayLike, param: ArrayLike) -> Float[Array, "..."]:
    if not is_trained(param):
        return jnp.zeros(jnp.shape(param), jnp.float32)
    return tame(jnp.asarray(gradient, jnp.float32))


ENTRIES = (
    HandDesigned(
        "relative_adam",
        relative_adam,
        0.1,
        source="this package",
        formula="u = s(t) max(RMS(p), 0.05) m_hat / (sqrt(v_hat) + 1e-12), b2 = 0.99",
        needs=("params",),
    ),
)
