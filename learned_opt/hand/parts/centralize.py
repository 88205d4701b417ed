"""Gradients without their mean over the inputs of a unit."""

import jax
import jax.numpy as jnp
import optax

from learned_opt.hand.parts.base import Part, units

SOURCE = "arXiv:2004.01461"


def _centralize(least_axes: int = 2) -> optax.GradientTransformation:
    """g minus its mean over all axes but the last, which is the output, as flax lays kernels out.

    least_axes: tensors with fewer are left alone; 2 for all matrices, 3 for convolutions only.
    """
    if least_axes < 2:
        raise ValueError(f"least_axes: {least_axes} is not allowed; it must be at least 2")

    def centralized(g):
        return g - jnp.mean(g, axis=units(g), keepdims=True) if g.ndim >= least_axes else g

    return optax.stateless(lambda updates, params: jax.tree.map(centralized, updates))


PARTS = {
    "centralize": Part("gradient", _centralize, "each unit's gradient has mean 0", SOURCE),
    "centralize_step": Part("step", _centralize, "each unit's step has mean 0", SOURCE),
}
