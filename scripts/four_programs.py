"""Four training programs as users write them, each of its own kind."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import transformer
from flax import linen, nnx

from tasks import data

cross_entropy = optax.softmax_cross_entropy_with_integer_labels


class Program(NamedTuple):
    """init: key -> parameters. loss: of parameters and a batch. batches: seed -> minibatches.

    validate: parameters -> what is known of them on held-out data. around: puts links of an
    optax.chain around a rule. averaging: weight of the newest parameters in their moving average,
    which is then validated too.
    """

    steps: int
    init: Callable[[jax.Array], Any]
    loss: Callable[[Any, Any], jax.Array]
    batches: Callable[[int], Iterator[Any]]
    validate: Callable[[Any], dict[str, jax.Array]]
    around: Callable[[Any], Any] = lambda tx: tx
    averaging: float | None = None


def minibatches(arrays: tuple[np.ndarray, ...], size: int) -> Callable[[int], Iterator[Any]]:
    """seed -> rows drawn with replacement, without end."""

    def batches(seed: int) -> Iterator[Any]:
        random = np.random.default_rng(seed)
        while True:
            chosen = random.integers(len(arrays[0]), size=size)
            yield tuple(array[chosen] for array in arrays)

    return batches


class Transformer(linen.Module):
    characters: int
    width: int = 42
    depth: int = 2
    heads: int = 3

    @linen.compact
    def __call__(self, seen):
        x = linen.Embed(self.characters, self.width)(seen)
        x += linen.Embed(seen.shape[-1], self.width)(jnp.arange(seen.shape[-1]))
        mask = linen.make_causal_mask(seen)
        for _ in range(self.depth):
            y = linen.LayerNorm()(x)
            x += linen.MultiHeadDotProductAttention(self.heads)(y, mask=mask)
            y = linen.gelu(linen.Dense(4 * self.width)(linen.LayerNorm()(x)))
            x += linen.Dense(self.width)(y)
        return linen.Dense(self.characters)(linen.LayerNorm()(x))


def characters() -> Program:
    """A flax.linen transformer of 56 thousand parameters on Python's language reference."""
    batch, length = 16, 64
    text, held_out, count = transformer.read("documentation", length)
    model = Transformer(count)

    def loss(params, sequences):
        return cross_entropy(model.apply(params, sequences[:, :-1]), sequences[:, 1:]).mean()

    return Program(
        steps=500,
        init=lambda key: model.init(key, held_out[:1, :-1]),
        loss=loss,
        batches=lambda seed: transformer.minibatches(text, seed, batch, length),
        validate=lambda params: {"valid": loss(params, held_out)},
    )


def clusters(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Six classes of two clusters each: 10 features that tell, 5 mixtures of them, 5 of noise."""
    corners = random.permutation(2**10)[:12]
    centres = 2.0 * (corners[:, None] >> np.arange(10) & 1) - 1
    mixing = random.uniform(-1, 1, (12, 10, 10))
    chosen = random.integers(12, size=count)
    x = np.einsum("ni,nij->nj", random.normal(size=(count, 10)), mixing[chosen]) + centres[chosen]
    x = np.hstack([x, x @ random.uniform(-1, 1, (10, 5)), random.normal(size=(count, 5))])
    guessed = random.random(count) < 0.02
    label = np.where(guessed, random.integers(6, size=count), chosen % 6)
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32), label


def classes() -> Program:
    """An MLP tells apart six classes that overlap; 2,000 examples are few enough to overfit."""
    x, label = clusters(np.random.default_rng(0), 4_000)
    held_out = x[2_000:], label[2_000:]
    dense, relu = linen.Dense, jax.nn.relu
    model = linen.Sequential([dense(128), relu, dense(64), relu, dense(6)])

    def loss(params, batch):
        return cross_entropy(model.apply(params, batch[0]), batch[1]).mean()

    return Program(
        steps=800,
        init=lambda key: model.init(key, x[:1]),
        loss=loss,
        batches=minibatches((x[:2_000], label[:2_000]), 64),
        validate=lambda params: scores(model.apply(params, held_out[0]), held_out[1]),
    )


def scores(logits: jax.Array, label: jax.Array) -> dict[str, jax.Array]:
    """Mean cross-entropy and accuracy in percent."""
    right = 100 * jnp.mean(logits.argmax(-1) == label)
    return {"valid": cross_entropy(logits, label).mean(), "accuracy": right}


class CNN(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.second = nnx.Conv(16, 32, (3, 3), strides=2, rngs=rngs)
        self.read = nnx.Linear(4 * 4 * 32, 10, rngs=rngs)

    def __call__(self, images):
        x = nnx.relu(self.second(nnx.relu(self.first(images))))
        return self.read(x.reshape(len(x), -1))


def digits() -> Program:
    """A flax.nnx CNN on handwritten digits of 8x8 pixels."""
    parts = data.load("digits")

    def read(*splits):
        image, label = (
            np.concatenate([parts[split][feature] for split in splits])
            for feature in ("image", "label")
        )
        return image[..., None] / np.float32(16), label

    train, (images, labels) = read("train"), read("inner_valid", "outer_valid")
    graph = nnx.graphdef(CNN(nnx.Rngs(0)))

    def loss(params, batch):
        return cross_entropy(nnx.merge(graph, params)(batch[0]), batch[1]).mean()

    return Program(
        steps=500,
        init=lambda key: nnx.state(CNN(nnx.Rngs(key))),
        loss=loss,
        batches=minibatches(train, 64),
        validate=lambda params: scores(nnx.merge(graph, params)(images), labels),
    )


def friedman(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Friedman's first function (1991), of 5 inputs of 10, with noise; targets have variance 1."""
    x = random.uniform(size=(count, 10))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
    y += 10 * x[:, 3] + 5 * x[:, 4] + random.normal(size=count)
    return (2 * x - 1).astype(np.float32), ((y - y.mean()) / y.std()).astype(np.float32)


def regression() -> Program:
    """Plain JAX, with gradients clipped and an exponential moving average of the parameters."""
    x, y = friedman(np.random.default_rng(0), 2_000)
    sizes = (10, 128, 128, 1)

    def init(key):
        pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
        keys = jax.random.split(key, len(pairs))
        return [
            {"w": jax.random.normal(key, (m, n)) / np.sqrt(m), "b": jnp.zeros(n)}
            for key, (m, n) in zip(keys, pairs, strict=True)
        ]

    def loss(params, batch):
        hidden, target = batch
        for layer in params[:-1]:
            hidden = jnp.tanh(hidden @ layer["w"] + layer["b"])
        found = hidden @ params[-1]["w"] + params[-1]["b"]
        return jnp.mean((found[:, 0] - target) ** 2)

    return Program(
        steps=600,
        init=init,
        loss=loss,
        batches=minibatches((x[:1_000], y[:1_000]), 64),
        validate=lambda params: {"valid": loss(params, (x[1_000:], y[1_000:]))},
        around=lambda tx: optax.chain(optax.clip_by_global_norm(1.0), tx),
        averaging=0.02,
    )


PROGRAMS = {f.__name__: f for f in (characters, classes, digits, regression)}
