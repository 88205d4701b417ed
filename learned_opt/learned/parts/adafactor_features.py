"""What the small networks of 2203.11860 and 2209.11208 read of every scalar."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_opt.learned.parts.features import offset_decays
from learned_opt.learned.parts.memory import Decays, Memory, Second

MOMENTUM_DECAYS = (0.9, 0.99, 0.999)
SQUARE_DECAYS = (0.999,)
FACTORED_DECAYS = (0.9, 0.99, 0.999)
TENSOR_FEATURES = 28


def init_offsets() -> dict[str, Array]:
    """Seven weights, 0 at first, that move the decays: see `offset_decays`."""
    return {
        "momentum_offset": jnp.zeros(len(MOMENTUM_DECAYS)),
        "square_offset": jnp.zeros(len(SQUARE_DECAYS)),
        "factored_offset": jnp.zeros(len(FACTORED_DECAYS)),
    }


def fresh_memory(tensors: int, shape: tuple[int, ...]) -> Memory:
    """4 floats a scalar and 3 for each row and column; below rank 2, 7 floats a scalar."""
    kinds = (len(MOMENTUM_DECAYS), len(SQUARE_DECAYS), len(FACTORED_DECAYS))
    return Memory.zeros(tensors, shape, kinds)


def remember(theta: dict[str, Array], memory: Memory, gradient: Float[Array, "*s"]) -> Memory:
    """The memory of one tensor with this gradient in it."""
    decays = Decays(
        offset_decays(MOMENTUM_DECAYS, theta["momentum_offset"]),
        offset_decays(SQUARE_DECAYS, theta["square_offset"]),
        offset_decays(FACTORED_DECAYS, theta["factored_offset"]),
    )
    return memory.step(decays, gradient)


def inverse_root(square: Array) -> Array:
    """1 / sqrt(square + 1e-6) of averages of g^2."""
    return jax.lax.rsqrt(square + 1e-6)


def adafactor_base(
    gradient: Float[Array, "*s"], param: Float[Array, "*s"], memory: Memory
) -> list[Array]:
    """What the features of one tensor are made of, [rows, *s]; reduced axes have size 1.

    memory: with this gradient in it.
    """
    second = Second.of(memory.factored, unfactored_eps=1e-6)
    return [gradient[None], param[None], memory.momentum, memory.square, *second]


def adafactor_features(
    gradient: Array,
    param: Array,
    momentum: Array,
    square: Array,
    row: Array,
    column: Array,
    gradient_factor: Array,
    momentum_factor: Array,
) -> list[Array]:
    """The 28 features in their order, by groups; the arguments are those of `adafactor_base`."""
    inverse = inverse_root(square)
    return [
        gradient,
        param,
        momentum,
        square,
        momentum * inverse,
        inverse,
        gradient * gradient_factor,
        row,
        column,
        jax.lax.rsqrt(row + 1e-8),
        jax.lax.rsqrt(column + 1e-8),
        momentum * momentum_factor,
    ]
