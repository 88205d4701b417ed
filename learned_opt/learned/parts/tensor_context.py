"""What a network of each tensor reads beside its scalars, where it corrects an anchor."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_opt.anchors.base import tensor_size
from learned_opt.base import Horizon
from learned_opt.learned.parts.corrections import length

NUM_FEATURES = 8


def tensor_context(
    params: Sequence[Float[Array, "*_"]],
    directions: Sequence[Sequence[Float[Array, "*_"]]],
    count: Int[Array, ""],
    horizon: Horizon,
) -> Float[Array, "8 t"]:
    """Time, and of each tensor its shape, its size and the noise of its gradients.

    directions: those of the anchor. count: updates made, with this one.
    """
    steps = jnp.asarray(horizon, jnp.float32)
    done = jnp.minimum(count / steps, 1.0)
    clock = [done, jnp.square(done), 0.2 * jnp.log(steps) - 1.0]
    rows = [
        jnp.stack(
            [
                *clock,
                jnp.float32(0.2 * math.log(param.size) - 1.0),
                0.5 * jnp.log(tensor_size(param)),
                *(jnp.log(length(u) + 1e-3) for u in us),
            ]
        )
        for param, us in zip(params, directions, strict=True)
    ]
    return jnp.stack(rows, axis=1)
