"""Examples that a task draws for itself when it begins, and keeps: no dataset is read."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks.base import SPLITS, Batch, Cfg, Data, Params, Split, Task
from tasks.families.synthetic import gradient_noise
from tasks.sampling import minibatch

_HELD_BACK = 256  # most examples of a split other than train
_CLUSTERS = 4  # two for each class


def by_split(key: PRNGKeyArray, count: int, draw: Callable[[PRNGKeyArray, int], Data]) -> Cfg:
    """What `draw(key, number)` gives for every split: `count` for train, at most 256 elsewhere."""
    keys = jax.random.split(key, len(SPLITS))
    return {
        split: draw(split_key, count if split == "train" else min(count, _HELD_BACK))
        for split, split_key in zip(SPLITS, keys, strict=True)
    }


def examples_task(
    init: Callable[[PRNGKeyArray], Params],
    value: Callable[[Params, Batch], Float[Array, ""]],
    cfg: Cfg,
    batch_size: int,
    noise: float,
) -> Task:
    """A task on the examples of `by_split`, with a loss that is never below 0.

    A batch size of a split's number of examples or more gives the whole split.
    """

    def batch(key: PRNGKeyArray, split: Split) -> Batch:
        if batch_size >= len(jax.tree.leaves(cfg[split])[0]):
            return cfg[split]
        return minibatch(key, batch_size, cfg[split])

    def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
        del key
        return value(params, batch)

    return Task(init, batch, lambda split: cfg[split], loss, 0.0, gradient_noise(noise))


def clusters(key: PRNGKeyArray, features: int, count: int, separation: float) -> Cfg:
    """Two classes of two stretched normal clusters each, around corners of a hypercube.

    The corners are +-separation in every coordinate, distinct; a cluster is a standard normal times
    a matrix of U(-1, 1) entries of its own. One label in a hundred is drawn anew, as in
    scikit-learn's make_classification with every feature informative.
    """
    corner_key, mix_key, key = jax.random.split(key, 3)
    mix = jax.random.uniform(mix_key, (_CLUSTERS, features, features), minval=-1.0)
    corners = _corners(corner_key, features) * separation

    def draw(key: PRNGKeyArray, count: int) -> Data:
        point_key, flip_key, label_key = jax.random.split(key, 3)
        rounds = -(-count // _CLUSTERS)
        points = jax.random.normal(point_key, (_CLUSTERS, rounds, features)) @ mix
        points = (points + corners[:, None]).swapaxes(0, 1).reshape(-1, features)[:count]
        label = jnp.arange(count) % 2
        flipped = jax.random.bernoulli(flip_key, 0.01, (count,))
        other = jax.random.bernoulli(label_key, 0.5, (count,)).astype(label.dtype)
        return {"features": points, "label": jnp.where(flipped, other, label)}

    return by_split(key, count, draw)


def _corners(key: PRNGKeyArray, features: int) -> Float[Array, "clusters features"]:
    """Four rows of +-1, distinct in their first ten coordinates."""
    number_key, sign_key = jax.random.split(key)
    bits = min(features, 10)
    numbers = jax.random.permutation(number_key, 2**bits)[:_CLUSTERS]
    distinct = 2.0 * ((numbers[:, None] >> jnp.arange(bits)) & 1) - 1
    rest = jax.random.rademacher(sign_key, (_CLUSTERS, features - bits), jnp.float32)
    return jnp.concatenate([distinct.astype(jnp.float32), rest], 1)


def labelled_by_mlp(key: PRNGKeyArray, features: int, count: int) -> Cfg:
    """Standard normal points, labelled 1 where unit 0 of a random network is active.

    The network has six ReLU layers of width 20 without biases; the weights of every layer are
    N(0, 2 / features).
    """
    network_key, key = jax.random.split(key)
    widths = [features] + [20] * 6
    keys = jax.random.split(network_key, 6)
    scale = math.sqrt(2 / features)
    weights = [
        scale * jax.random.normal(layer_key, shape)
        for layer_key, shape in zip(keys, zip(widths[:-1], widths[1:], strict=True), strict=True)
    ]

    def draw(key: PRNGKeyArray, count: int) -> Data:
        points = x = jax.random.normal(key, (count, features))
        for weight in weights:
            x = jax.nn.relu(x @ weight)
        return {"features": points, "label": (x[:, 0] > 0).astype(jnp.int32)}

    return by_split(key, count, draw)


def noisy_parity(key: PRNGKeyArray, length: int, count: int) -> Cfg:
    """Rows of fair bits; the label is their parity, flipped with probability 1/4."""

    def draw(key: PRNGKeyArray, count: int) -> Data:
        bit_key, flip_key = jax.random.split(key)
        bits: Int[Array, "count length"] = jax.random.bernoulli(
            bit_key, 0.5, (count, length)
        ).astype(jnp.int32)
        flip = jax.random.bernoulli(flip_key, 0.25, (count,))
        return {"bits": bits, "label": (jnp.sum(bits, 1) + flip) % 2}

    return by_split(key, count, draw)


def fair_bits(key: PRNGKeyArray, length: int, count: int) -> Cfg:
    """Rows of zeros and ones of equal probability, float32."""
    return by_split(
        key, count, lambda k, n: jax.random.bernoulli(k, 0.5, (n, length)).astype(jnp.float32)
    )


def symmetric_normal(key: PRNGKeyArray, length: int, count: int) -> Cfg:
    """Standard normal rows, each with its negative; `count` is even."""

    def draw(key: PRNGKeyArray, count: int) -> Data:
        half = jax.random.normal(key, (count // 2, length))
        return jnp.concatenate([half, -half])

    return by_split(key, count, draw)
