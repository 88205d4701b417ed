"""What VeLO's networks read of every scalar, and Celo's and Celo2's after it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_opt.learned.parts.memory import Memory, Second

MOMENTUM_DECAYS = (0.9, 0.99, 0.999)
FACTORED_DECAYS = (0.9, 0.99, 0.999)
GROUPS = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)  # rows of each of the 14
CLIPPED_AT = 0.1


def moment_base(
    gradient: Float[Array, "*s"], param: Float[Array, "*s"], memory: Memory
) -> list[Array]:
    """The arrays [rows, *s] that the features of one tensor are made of; reduced axes have size 1.

    memory: with this gradient in it, its averages at the three decays above and one of squares.
    """
    second = Second.of(memory.factored, unfactored_eps=0.0)
    return [gradient[None], param[None], memory.momentum, memory.square, *second]


def moment_features(
    gradient: Array,
    param: Array,
    momentum: Array,
    square: Array,
    row: Array,
    column: Array,
    gradient_factor: Array,
    momentum_factor: Array,
    *,
    square_eps: float = 1e-6,
) -> list[Array]:
    """The 14 groups in their order, 30 rows, not yet normalised (2211.09760, released code).

    The arguments are those of `moment_base`. square_eps: added to the average of squares under the
    root; 1e-6 in VeLO and Celo.
    """
    inverse = jax.lax.rsqrt(square + square_eps)
    return [
        gradient,
        jnp.clip(gradient, -CLIPPED_AT, CLIPPED_AT),
        param,
        momentum,
        square,
        momentum * inverse,
        inverse,
        gradient * gradient_factor,
        gradient * inverse,
        row,
        column,
        jax.lax.rsqrt(row + 1e-8),
        jax.lax.rsqrt(column + 1e-8),
        momentum * momentum_factor,
    ]
