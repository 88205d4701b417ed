"""SAdam: Adam with a softplus of the root of the second moment in place of its eps."""

import jax
import jax.numpy as jnp
import optax

from learned_opt.hand.assemble import Direction
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.spec import HandDesigned


def scale_by_sadam(
    b1: Scalar = 0.9, b2: Scalar = 0.999, sharpness: Scalar = 50.0, debias_inside: bool = False
) -> optax.GradientTransformation:
    """u = m_hat / softplus(sqrt(v)) * sqrt(1 - b2^t), softplus(x) = log(1 + exp(k x)) / k.

    sharpness: k, above 0; the denominator is at least log(2) / k. debias_inside: v_hat within the
    softplus in place of the factor outside, so that early steps are not damped.
    """

    def update(updates, state, params=None):
        del params
        count = state.count + 1
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment(updates, state.nu, b2, 2)
        correction = 1 - b2**count

        def one(m, v):
            inside = v / correction if debias_inside else v
            outside = 1.0 if debias_inside else jnp.sqrt(correction)
            floored = jax.nn.softplus(sharpness * jnp.sqrt(inside)) / sharpness
            return jnp.asarray(m * outside / floored, m.dtype)

        direction = jax.tree.map(one, optax.tree.bias_correction(mu, b1, count), nu)
        return direction, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


ENTRIES = (
    HandDesigned(
        "sadam",
        Direction(scale_by_sadam),
        1e-2,
        source="arXiv:1908.00700",
        formula="u = m_hat * sqrt(1 - b2^t) / softplus(sqrt(v); sharpness)",
        ranges=(("sharpness", Hyperparameter("log", 5.0, 500.0, open=True)),),
    ),
)
