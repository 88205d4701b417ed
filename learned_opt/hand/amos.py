"""Amos: step sizes and decay that follow from how large the entries of a tensor will be."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from learned_opt.base import Params
from learned_opt.hand.assemble import Whole
from learned_opt.hand.hyperparameters import Scalar
from learned_opt.hand.paths import check_pattern, path_of
from learned_opt.hand.prodigy import scheduled
from learned_opt.hand.spec import HandDesigned

DECAY = 0.25  # of the rates, over the decay that was made
SMALLEST = 2.0**-125


class AmosState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    square: Params  # average of each leaf's mean squared gradient, a number per leaf
    decayed: Params  # decay made so far, a number per leaf


def amos(
    learning_rate: Any,
    b2: Scalar = 0.999,
    momentum: float | None = None,
    scales: Sequence[Sequence[Any]] = (),
) -> optax.GradientTransformation:
    """w <- w - d (rate s sqrt(r) g + k w / 2), r = 1 / mean g^2, k = c rate^2 r mean g^2.

    learning_rate: about 1 / sqrt(number of independent minibatches), or a schedule of it. s is the
    expected size of a leaf's entries: that of the first pair (pattern, size) of `scales` found in
    its path, else 1 for a vector `scale`, 0.5 for other vectors, sqrt(2 / width) for an embedding
    and sqrt(1 / inputs) for other tensors. c and d fall as decay accumulates. momentum: of steps.
    """
    for pattern, _ in scales:
        check_pattern("scales", pattern)

    def init(params: Params) -> AmosState:
        square, decayed = (jax.tree.map(lambda p: jnp.zeros((), p.dtype), params) for _ in range(2))
        return AmosState(jnp.zeros((), jnp.int32), square, decayed)

    def update(updates, state, params=None):
        count = state.count + 1
        rate = scheduled(learning_rate, state.count)
        means = jax.tree.map(lambda g: jnp.mean(jnp.square(g)), updates)
        square = optax.tree.update_moment(means, state.square, b2, 1)

        def one(path, g, p, mean, v, b):
            size = entry_size(path_of(path), p.shape, scales)
            inverse = (1 - b2**count) / jnp.maximum(v, SMALLEST)
            k = rate**2 * inverse * mean / jnp.sqrt(1 + DECAY * jnp.sqrt(rate) * b)
            d = 1 / (1 + DECAY * jnp.sqrt(rate * size) * b)
            step = -d * (rate * size * jnp.sqrt(inverse) * g + 0.5 * k * p)
            return jnp.asarray(step, p.dtype), jnp.asarray(b + k * (1 + b), b.dtype)

        found = jax.tree_util.tree_map_with_path(one, updates, params, means, square, state.decayed)
        pair = jax.tree.structure((0, 0))
        steps, decayed = jax.tree.transpose(jax.tree.structure(updates), pair, found)
        return steps, AmosState(count, square, decayed)

    rule = optax.GradientTransformation(init, update)
    return rule if momentum is None else optax.chain(rule, optax.ema(momentum, debias=False))


def entry_size(path: str, shape: tuple[int, ...], scales: Sequence[Sequence[Any]] = ()) -> float:
    """The expected root mean square of a trained tensor's entries."""
    for pattern, size in scales:
        if re.search(pattern, path):
            return size
    if len(shape) < 2:
        return 1.0 if path.endswith("scale") else 0.5
    if "embed" in path:
        return math.sqrt(2.0 / shape[-1])
    return math.sqrt(1.0 / math.prod(shape[:-1]))


ENTRIES = (
    HandDesigned(
        "amos",
        Whole(amos),
        1e-2,
        source="arXiv:2210.11693",
        formula="w <- w - d (rate s g / RMS(g) + k w / 2), k ~ rate^2; d and k fall with sum k",
        needs=("params",),
    ),
)
