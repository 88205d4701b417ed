"""Steps with gradients that are not finite are left out."""

import optax

from learned_opt.hand.parts.base import Part


def _if_finite(
    inner: optax.GradientTransformation, max_consecutive_errors: int = 10
) -> optax.GradientTransformation:
    return optax.apply_if_finite(inner, max_consecutive_errors)


PARTS = {"if_finite": Part("outermost", _if_finite, "passes over gradients that are not finite")}
