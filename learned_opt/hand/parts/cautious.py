"""Only what goes along with the gradient of this step is applied."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt.hand.hyperparameters import Hyperparameter
from learned_opt.hand.parts.base import Part
from learned_opt.naming import check_name

FORMS = ("paper", "mean")
LEAST_MEAN = 1e-3


def cautious(
    inner: optax.GradientTransformation, form: str = "paper", xi: Any = 1.0
) -> optax.GradientTransformationExtraArgs:
    """u * 1[u * g > 0], scaled up for what is left out, leaf by leaf (arXiv:2411.16085).

    form: `paper` scales by n / (number kept + xi); `mean`, as the authors' later code, by
    1 / max(part kept, 1e-3).
    """
    check_name("parts.cautious.form", form, FORMS)
    inner = optax.with_extra_args_support(inner)

    def kept(u, g):
        keep = jnp.asarray(u * g > 0, u.dtype)
        if form == "paper":
            return u * keep * (u.size / (jnp.sum(keep) + xi)).astype(u.dtype)
        return u * keep / jnp.maximum(jnp.mean(keep), LEAST_MEAN)

    def update(updates, state, params=None, **extra):
        moved, state = inner.update(updates, state, params, **extra)
        return jax.tree.map(kept, moved, updates), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


PARTS = {
    "cautious": Part(
        "direction",
        cautious,
        "leaves out what goes against this step's gradient",
        "arXiv:2411.16085",
        ranges={"xi": Hyperparameter("log", 0.1, 10.0)},
    )
}
