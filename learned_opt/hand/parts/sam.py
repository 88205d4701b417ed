"""Sharpness-aware minimisation: the gradient at a point uphill of the parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt.hand.hyperparameters import Hyperparameter
from learned_opt.hand.parts.base import Part


def _sam(rho: Any = 0.05) -> optax.GradientTransformation:
    """The gradient of obj_fn at w + rho g / norm(g), g over the whole tree. rho: above 0."""

    def update(updates, state, params=None, *, obj_fn: Any = None, **extra):
        del extra
        norm = optax.tree.norm(updates)
        length = jnp.where(norm > 0.0, rho / jnp.where(norm > 0.0, norm, 1.0), 0.0)
        uphill = jax.tree.map(lambda p, g: p + jnp.asarray(length * g, p.dtype), params, updates)
        return jax.grad(obj_fn)(uphill), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


PARTS = {
    "sam": Part(
        "gradient",
        _sam,
        "the gradient at a point uphill, at twice the cost",
        "arXiv:2010.01412",
        ("params", "obj_fn"),
        {"rho": Hyperparameter("log", 1e-3, 1.0, open=True)},
    )
}
