"""Adam with an arc tangent in place of the quotient: no eps, the same at every gradient scale."""

import jax
import jax.numpy as jnp
import optax

from learned_opt.hand.assemble import Direction
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.spec import HandDesigned


def scale_by_adam_atan2(
    b1: Scalar = 0.9, b2: Scalar = 0.999, a: Scalar = 1.27, b: Scalar = 1.0
) -> optax.GradientTransformation:
    """u = a atan2(m_hat, b sqrt(v_hat)); |u| is at most a pi / 2, and 0 where no gradient came."""

    def update(updates, state, params=None):
        del params
        count = state.count + 1
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)
        mu_hat = optax.tree.bias_correction(mu, b1, count)
        nu_hat = optax.tree.bias_correction(nu, b2, count)
        direction = jax.tree.map(lambda m, v: a * jnp.arctan2(m, b * jnp.sqrt(v)), mu_hat, nu_hat)
        return direction, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


ENTRIES = (
    HandDesigned(
        "adam_atan2",
        Direction(scale_by_adam_atan2),
        1e-3,
        source="arXiv:2407.05872",
        formula="u = a * atan2(m_hat, b * sqrt(v_hat))",
        ranges=(
            ("a", Hyperparameter("log", 0.127, 12.7, open=True)),
            ("b", Hyperparameter("log", 0.1, 10.0, open=True)),
        ),
    ),
)
