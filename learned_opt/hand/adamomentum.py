"""AdaMomentum: the second moment is that of the momentum, not of the gradient."""

import jax
import jax.numpy as jnp
import optax

from learned_opt.hand.assemble import Direction
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.spec import HandDesigned


def scale_by_adamomentum(
    b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8, debias_m_in_v: bool = False
) -> optax.GradientTransformation:
    """u = m_hat / sqrt(v_hat), v <- b2 v + (1 - b2) m^2 + eps.

    The first step is 1 / (1 - b1) times Adam's, unless debias_m_in_v takes m_hat in place of m.
    """

    def update(updates, state, params=None):
        del params
        count = state.count + 1
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        mu_hat = optax.tree.bias_correction(mu, b1, count)
        seen = mu_hat if debias_m_in_v else mu
        nu = optax.tree.update_moment(seen, state.nu, b2, 2)
        nu = jax.tree.map(lambda v: v + eps, nu)
        nu_hat = optax.tree.bias_correction(nu, b2, count)
        direction = jax.tree.map(lambda m, v: m / jnp.sqrt(v), mu_hat, nu_hat)
        return direction, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


ENTRIES = (
    HandDesigned(
        "adamomentum",
        Direction(scale_by_adamomentum),
        1e-3,
        source="arXiv:2106.11514",
        formula="v <- b2 * v + (1 - b2) * m^2 + eps; u = m_hat / sqrt(v_hat)",
        ranges=(("eps", Hyperparameter("log", 1e-12, 1e-2, open=True)),),
    ),
)
