"""Adam for controllers: averages that stay right when b1 and b2 are changed during a run."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from learned_opt.base import Params
from learned_opt.hand.hyperparameters import Scalar


class RunningAdamState(NamedTuple):
    mu: Params  # average of gradients
    nu: Params  # average of squared gradients
    mu_weight: Float[Array, ""]  # of all gradients in mu
    nu_weight: Float[Array, ""]  # of all gradients in nu


def scale_by_running_adam(
    b1: Scalar, b2: Scalar, eps: Scalar, eps_root: Scalar
) -> optax.GradientTransformation:
    """optax.scale_by_adam, with averages divided by the weight they have, not by 1 - b^t.

    The two are the same while b1 and b2 stay. Where b2 goes from 0.999 to 0.99 at step 10, 1 - b^t
    would make the second moment ten times smaller at once.
    """

    def init(params: Params) -> RunningAdamState:
        mu, nu = (optax.tree.zeros_like(params) for _ in range(2))
        zero = jnp.zeros((), optax.tree.dtype(params, "lowest"))
        return RunningAdamState(mu, nu, zero, zero)

    def update(updates, state, params=None):
        del params
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)
        mu_weight, nu_weight = (
            jnp.asarray(b * weight + (1 - b), weight.dtype)
            for b, weight in ((b1, state.mu_weight), (b2, state.nu_weight))
        )
        direction = jax.tree.map(
            lambda m, v: m / mu_weight / (jnp.sqrt(v / nu_weight + eps_root) + eps), mu, nu
        )
        return direction, RunningAdamState(mu, nu, mu_weight, nu_weight)

    return optax.GradientTransformation(init, update)
