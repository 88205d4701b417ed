"""Weight decay measured in the units of Adam's steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from learned_opt.base import Params
from learned_opt.hand.parts.base import Mask, Part, picked


class StableState(NamedTuple):
    inner: optax.OptState
    mean_square: Float[Array, ""]  # EMA of the mean squared gradient entry of the whole model
    weight: Float[Array, ""]  # what that average's weights sum to


def stable_decay(
    inner: optax.GradientTransformation, value: Any = 5e-4, mask: Mask = "all", b2: Any = 0.999
) -> optax.GradientTransformationExtraArgs:
    """u + value / sqrt(v) * w, v the mean of Adam's v_hat over all parameters (arXiv:2011.11152).

    The mean of v_hat is the average, with decay b2, of the mean squared gradient: one number,
    whatever `inner` is. Without any gradient so far there is no decay.
    """
    pick = picked(mask)
    inner = optax.with_extra_args_support(inner)

    def init(params: Params) -> StableState:
        dtype = jnp.result_type(float)
        return StableState(inner.init(params), jnp.zeros((), dtype), jnp.zeros((), dtype))

    def update(updates, state, params=None, **extra):
        leaves = jax.tree.leaves(updates)
        total = sum(jnp.sum(jnp.square(g)) for g in leaves)
        square = total / max(1, sum(g.size for g in leaves))
        mean_square = b2 * state.mean_square + (1.0 - b2) * square
        weight = b2 * state.weight + (1.0 - b2)
        seen = mean_square > 0.0
        strength = jnp.where(
            seen, value * jax.lax.rsqrt(jnp.where(seen, mean_square / weight, 1)), 0
        )
        moved, inner_state = inner.update(updates, state.inner, params, **extra)
        moved = jax.tree.map(
            lambda use, u, p: u + strength.astype(u.dtype) * p if use else u,
            pick(params),
            moved,
            params,
        )
        return moved, StableState(
            inner_state,
            mean_square.astype(state.mean_square.dtype),
            jnp.asarray(weight, state.weight.dtype),
        )

    return optax.GradientTransformationExtraArgs(init, update)


DECAYS = {
    "stable": Part(
        "direction",
        stable_decay,
        "w <- w - rate * value / sqrt(mean of v_hat over the model) * w",
        "arXiv:2011.11152",
        ("params",),
    )
}
