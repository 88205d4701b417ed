"""Classifiers of two classes on examples that every task draws for itself (1703.04813)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Task
from tasks.families.generated import clusters, examples_task, labelled_by_mlp, noisy_parity
from tasks.families.layers import ACTIVATIONS, affine, cross_entropy, mlp_apply
from tasks.names import check_at_least, check_name
from tasks.sampling import task_key


def penalised(
    params: Params, logits: Float[Array, "n 2"], label: Integer[Array, " n"]
) -> Float[Array, ""]:
    """Softmax cross-entropy plus 1e-3 times the mean over tensors of the sum of their squares."""
    tensors = jax.tree.leaves(params)
    penalty = sum((jnp.sum(tensor**2) for tensor in tensors), start=jnp.float32(0))
    return cross_entropy(logits, label) + 1e-3 * penalty / len(tensors)


def _start(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """N(0, 1) times 1.2 over the root of the first dimension: of weights and biases alike."""
    return jax.random.normal(key, shape) * (1.2 / math.sqrt(shape[0]))


def _layer(key: PRNGKeyArray, inputs: int, outputs: int) -> Params:
    weight_key, bias_key = jax.random.split(key)
    return {"weight": _start(weight_key, (inputs, outputs)), "bias": _start(bias_key, (outputs,))}


@dataclass(frozen=True)
class LogisticRegression:
    """Softmax regression of two classes, two stretched normal clusters each.

    examples: how many the train split holds. separation: of the clusters' centres from 0 in every
    coordinate, > 0. noise: standard deviation of what is added to every gradient entry. seed: of
    the examples; None draws others for every task. The loss adds 1e-3 times the mean over tensors
    of their sums of squares.
    """

    loss: ClassVar[str] = "cross_entropy"
    features: int = 10
    examples: int = 100
    separation: float = 2.0
    batch_size: int = 32
    noise: float = 0.0
    seed: int | None = None
    name: str = "logistic_regression"

    def __post_init__(self):
        check_at_least(2, features=self.features)
        check_at_least(1, examples=self.examples, batch_size=self.batch_size)
        check_at_least(0, separation=self.separation, noise=self.noise)

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return clusters(task_key(key, self.seed), self.features, self.examples, self.separation)

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data

        def value(params: Params, batch: Batch) -> Float[Array, ""]:
            return penalised(params, affine(params, batch["features"]), batch["label"])

        return examples_task(
            lambda key: _layer(key, self.features, 2), value, cfg, self.batch_size, self.noise
        )


@dataclass(frozen=True)
class RandomMLPClassifier:
    """A dense network that learns how a deeper random one labels normal points in two classes.

    widths: of the hidden layers. activation: a key of ACTIVATIONS. Other fields, penalty and start
    as in LogisticRegression.
    """

    loss: ClassVar[str] = "cross_entropy"
    features: int = 8
    widths: tuple[int, ...] = (8, 5)
    activation: str = "sigmoid"
    examples: int = 100
    batch_size: int = 10
    noise: float = 0.0
    seed: int | None = None
    name: str = "random_mlp_classifier"

    def __post_init__(self):
        check_name("activation", self.activation, ACTIVATIONS)
        check_at_least(1, features=self.features, widths=min(self.widths, default=1))
        check_at_least(1, examples=self.examples, batch_size=self.batch_size)
        check_at_least(0, noise=self.noise)

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return labelled_by_mlp(task_key(key, self.seed), self.features, self.examples)

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data
        sizes = (self.features, *self.widths, 2)

        def init(key: PRNGKeyArray) -> Params:
            keys = jax.random.split(key, len(sizes) - 1)
            pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
            return {f"layer{i}": _layer(k, n, m) for i, (k, n, m) in enumerate(pairs)}

        def value(params: Params, batch: Batch) -> Float[Array, ""]:
            logits = mlp_apply(params, batch["features"], self.activation)
            return penalised(params, logits, batch["label"])

        return examples_task(init, value, cfg, self.batch_size, self.noise)


@dataclass(frozen=True)
class SparseSoftmaxRegression:
    """Embeddings of bits, summed, then a linear layer: the noisy parity of the bits.

    The sum sees only how many bits are set, so the labels can be learnt by heart at best. features:
    width of an embedding. length: bits of an example. one_hot: the embeddings are looked up by a
    matrix product instead of by index, the same function. Other fields, penalty and start as in
    LogisticRegression.
    """

    loss: ClassVar[str] = "cross_entropy"
    features: int = 5
    length: int = 5
    one_hot: bool = False
    examples: int = 5
    batch_size: int = 23
    noise: float = 0.0
    seed: int | None = None
    name: str = "sparse_softmax_regression"

    def __post_init__(self):
        check_at_least(1, features=self.features, length=self.length)
        check_at_least(1, examples=self.examples, batch_size=self.batch_size)
        check_at_least(0, noise=self.noise)

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return noisy_parity(task_key(key, self.seed), self.length, self.examples)

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data

        def init(key: PRNGKeyArray) -> Params:
            embedding_key, key = jax.random.split(key)
            return {
                "embedding": _start(embedding_key, (2, self.features)),
                **_layer(key, self.features, 2),
            }

        def value(params: Params, batch: Batch) -> Float[Array, ""]:
            table, bits = params["embedding"], batch["bits"]
            rows = jax.nn.one_hot(bits, 2) @ table if self.one_hot else table[bits]
            return penalised(params, affine(params, jnp.sum(rows, 1)), batch["label"])

        return examples_task(init, value, cfg, self.batch_size, self.noise)
