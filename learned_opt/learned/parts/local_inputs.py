"""What VeLO, Celo and Celo2 feed a network per scalar: 14 groups of 30 inputs, normalised.

Tensors of rank 0 and 1 may do with the first nine groups, 15 inputs, as in Celo2.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_opt.learned.parts.memory import Memory, Second
from learned_opt.learned.parts.scalar_network import Layers, scalar_network

NUM_INPUTS = 30
NUM_SHORT = 15
NUM_BASE = 8  # arrays that they are made of
LARGEST_SIGN = 0.1  # where the clipped gradient stays


def local_inputs(
    square_eps: float,
    short: bool,
    gradient: Array,
    param: Array,
    momentum: Array,
    square: Array,
    row: Array,
    column: Array,
    gradient_factor: Array,
    momentum_factor: Array,
) -> list[Array]:
    """The groups in their order, each [rows, *shape], with size 1 along axes it is the same on.

    momentum, row, column and the factors have three rows each, the others one. square_eps: under
    the root of the average of g^2. short: only the first nine groups.
    """
    inverse = jax.lax.rsqrt(square + square_eps)
    groups = [
        gradient,
        jnp.clip(gradient, -LARGEST_SIGN, LARGEST_SIGN),
        param,
        momentum,
        square,
        momentum * inverse,
        inverse,
        gradient * gradient_factor,
        gradient * inverse,
    ]
    if short:
        return groups
    return [
        *groups,
        row,
        column,
        jax.lax.rsqrt(row + 1e-8),
        jax.lax.rsqrt(column + 1e-8),
        momentum * momentum_factor,
    ]


def last_axes_normaliser(x: Float[Array, "k *s"], eps: float) -> Float[Array, "k *r"]:
    """1 / sqrt(eps + mean of x^2 over the last two axes of a tensor, kept with size 1)."""
    axes = tuple(range(max(1, x.ndim - 2), x.ndim))
    return jax.lax.rsqrt(eps + jnp.mean(jnp.square(x), axis=axes, keepdims=True))


def local_network(
    layers: Layers,
    gradient: Float[Array, "*s"],
    param: Float[Array, "*s"],
    memory: Memory,
    square_eps: float,
    eps: float,
) -> list[Float[Array, "*s"]]:
    """A network's outputs for every scalar of one tensor, as in Celo2: one array each.

    layers: the first weight has 30 rows; tensors of rank 1 use 15 of them. memory: momentum and
    factored averages of three decays, one average of g^2. square_eps: see `local_inputs`. eps: of
    the normaliser of the inputs, over the last two axes.
    """
    short = gradient.ndim < 2
    second = Second.of(memory.factored, unfactored_eps=1e-6)
    base = [gradient[None], param[None], memory.momentum, memory.square, *second]
    features = partial(local_inputs, square_eps, short)
    scales = [last_axes_normaliser(x, eps) for x in features(*base)]
    (weight, bias), *deeper = layers
    weight = weight[:NUM_SHORT] if short else weight
    if gradient.ndim <= 2:
        weight = jnp.concatenate([x.reshape(-1) for x in scales])[:, None] * weight
    else:
        features, base = partial(_scaled, features), [*base, *scales]
    return scalar_network([(weight, bias), *deeper], features, base, gradient.shape)


def _scaled(features: partial[list[Array]], *base: Array) -> list[Array]:
    """The inputs times their scales, which follow what the inputs are made of."""
    inputs, scales = features(*base[:NUM_BASE]), base[NUM_BASE:]
    return [x * scale for x, scale in zip(inputs, scales, strict=True)]
