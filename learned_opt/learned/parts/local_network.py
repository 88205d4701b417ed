"""Celo2's network of every scalar: VeLO's inputs, each normalised over a tensor's last two axes."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_opt.learned.parts.memory import Memory
from learned_opt.learned.parts.moment_features import GROUPS, moment_base, moment_features
from learned_opt.learned.parts.scalar_network import Layers, scalar_network

NUM_INPUTS = sum(GROUPS)
SHORT = 9  # groups that tensors of rank 0 and 1 make do with
SQUARE_EPS = 1e-8  # under the root of averages of g^2
NORMALISER_EPS = 1e-9


def local_network(
    layers: Layers, gradient: Float[Array, "*s"], param: Float[Array, "*s"], memory: Memory
) -> list[Float[Array, "*s"]]:
    """The outputs for every scalar of one tensor, one array each; ReLU between layers.

    layers: the first weight has 30 rows; tensors of rank 1 use the first 15. memory: that of
    `moment_base`.
    """
    groups = SHORT if gradient.ndim < 2 else len(GROUPS)
    features, base = partial(_groups, groups), moment_base(gradient, param, memory)
    scales = [last_axes_normaliser(group) for group in features(*base)]
    (weight, bias), *deeper = layers
    weight = weight[: sum(GROUPS[:groups])]
    if gradient.ndim <= 2:
        weight = jnp.concatenate([x.reshape(-1) for x in scales])[:, None] * weight
    else:
        features, base = partial(_scaled, len(base), features), [*base, *scales]
    return scalar_network([(weight, bias), *deeper], features, base, gradient.shape)


def last_axes_normaliser(x: Float[Array, "k *s"]) -> Float[Array, "k *r"]:
    """1 / sqrt(1e-9 + mean of x^2 over the last two axes of a tensor, kept with size 1)."""
    axes = tuple(range(max(1, x.ndim - 2), x.ndim))
    return jax.lax.rsqrt(NORMALISER_EPS + jnp.mean(jnp.square(x), axis=axes, keepdims=True))


def unit_rms(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """x with a root mean square of 1 over its last two axes; 0 stays 0."""
    return last_axes_normaliser(x[None])[0] * x


def _groups(count: int, *base: Array) -> list[Array]:
    return moment_features(*base, square_eps=SQUARE_EPS)[:count]


def _scaled(count: int, features: partial[list[Array]], *base: Array) -> list[Array]:
    """The inputs times their scales, which follow the `count` arrays that inputs are made of."""
    inputs, scales = features(*base[:count]), base[count:]
    return [x * scale for x, scale in zip(inputs, scales, strict=True)]
