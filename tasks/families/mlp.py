"""Dense networks: softmax regression on generated clusters, classifiers, an autoencoder."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import SPLITS, Batch, Cfg, Data, Params, Split, Task
from tasks.data import load
from tasks.families.layers import (
    ACTIVATIONS,
    LOSSES,
    affine,
    cross_entropy,
    dense,
    mlp_apply,
    mlp_init,
    pixels,
    standardise,
    with_layer_norm,
)
from tasks.names import check_at_least, check_name, check_range
from tasks.sampling import first, indices, log_uniform, minibatch

WHOLE = 512  # examples that stand for a whole split

# name -> (inputs at full size, classes)
_SHAPES = {"digits": (64, 10), "wine": (13, 3), "breast_cancer": (30, 2)}


@dataclass(frozen=True)
class SoftmaxRegression:
    """Linear classification of normal clusters, drawn afresh for every minibatch.

    The centres are N(0, separation^2 / dim) in each coordinate, the noise around them N(0, 1);
    separation is log-uniform within its bounds, so some tasks can be solved and some cannot.
    """

    dim: int = 10
    classes: int = 5
    batch_size: int = 32
    separation: tuple[float, float] = (1.0, 10.0)
    name: str = "softmax_regression"

    def __post_init__(self):
        check_at_least(1, dim=self.dim, batch_size=self.batch_size)
        check_at_least(2, classes=self.classes)
        check_range("separation", self.separation)

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        centre_key, separation_key, seed_key = jax.random.split(key, 3)
        spread = log_uniform(separation_key, self.separation) / math.sqrt(self.dim)
        return {
            "centres": spread * jax.random.normal(centre_key, (self.classes, self.dim)),
            "seed": jax.random.bits(seed_key),  # of the examples that stand for a whole split
        }

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data

        def examples(key: PRNGKeyArray, count: int) -> Batch:
            label_key, noise_key = jax.random.split(key)
            label = indices(label_key, count, self.classes)
            noise = jax.random.normal(noise_key, (count, self.dim))
            return {"features": cfg["centres"][label] + noise, "label": label}

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            return examples(jax.random.fold_in(key, SPLITS.index(split)), self.batch_size)

        def whole(split: Split) -> Batch:
            key = jax.random.fold_in(jax.random.key(cfg["seed"]), SPLITS.index(split))
            return examples(key, WHOLE)

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            del key
            return cross_entropy(affine(params, batch["features"]), batch["label"])

        return Task(
            lambda key: dense(key, self.dim, self.classes), batch, whole, loss, lower_bound=0.0
        )


@dataclass(frozen=True)
class MLPClassifier:
    """A classifier of digits or of table rows with hidden layers of the given widths.

    dataset: digits, wine or breast_cancer (table features are standardised). image_size: 8, or 4
    for means of 2x2 pixels; digits only. loss: a key of LOSSES. initial_scale: bounds of the
    log-uniform factor on the starting weights, N(0, 1 / inputs) before it.
    """

    dataset: str = "digits"
    widths: tuple[int, ...] = (16,)
    activation: str = "relu"
    image_size: int = 8
    layer_norm: bool = False
    loss: str = "cross_entropy"
    batch_size: int = 32
    initial_scale: tuple[float, float] = (1.0, 1.0)
    name: str = "mlp_classifier"

    def __post_init__(self):
        check_name("dataset", self.dataset, _SHAPES)
        check_name("activation", self.activation, ACTIVATIONS)
        check_name("loss", self.loss, LOSSES)
        check_at_least(1, batch_size=self.batch_size, widths=min(self.widths, default=1))
        check_range("initial_scale", self.initial_scale)
        if self.image_size not in (4, 8):
            raise ValueError(f"image_size: {self.image_size} is not allowed; it must be 4 or 8")

    @property
    def sizes(self) -> tuple[int, ...]:
        inputs, classes = _SHAPES[self.dataset]
        if self.dataset == "digits":
            inputs = self.image_size**2
        return (inputs, *self.widths, classes)

    def load(self) -> Data:
        parts = load(self.dataset)
        return parts if self.dataset == "digits" else standardise(parts)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return {"scale": log_uniform(key, self.initial_scale)}

    def task(self, cfg: Cfg, data: Data) -> Task:
        def init(key: PRNGKeyArray) -> Params:
            params = mlp_init(key, self.sizes, cfg["scale"])
            return with_layer_norm(params) if self.layer_norm else params

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            return minibatch(key, self.batch_size, data[split])

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            del key
            if self.dataset == "digits":
                x = pixels(batch["image"], self.image_size).reshape(-1, self.sizes[0])
            else:
                x = batch["features"]
            return LOSSES[self.loss](mlp_apply(params, x, self.activation), batch["label"])

        return Task(init, batch, lambda split: first(WHOLE, data[split]), loss, lower_bound=0.0)


@dataclass(frozen=True)
class DenoisingAutoencoder:
    """Digits rebuilt from noisy ones through hidden layers of the given widths.

    noise: standard deviation of what is added to the pixels, which lie in 0 .. 1. The loss is the
    mean squared error per pixel against the clean digit.
    """

    dataset: ClassVar[str] = "digits"
    widths: tuple[int, ...] = (32, 12, 32)
    activation: str = "tanh"
    noise: float = 0.3
    batch_size: int = 32
    name: str = "denoising_autoencoder"

    def __post_init__(self):
        check_name("activation", self.activation, ACTIVATIONS)
        check_at_least(1, batch_size=self.batch_size, widths=min(self.widths, default=1))
        check_at_least(0, noise=self.noise)

    def load(self) -> Data:
        return {split: {"image": part["image"]} for split, part in load(self.dataset).items()}

    def sample(self, key: PRNGKeyArray) -> Cfg:
        del key
        return ()

    def task(self, cfg: Cfg, data: Data) -> Task:
        del cfg

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            return minibatch(key, self.batch_size, data[split])

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            clean = pixels(batch["image"], 8).reshape(-1, 64)
            noisy = clean + self.noise * jax.random.normal(key, clean.shape)
            return jnp.mean((mlp_apply(params, noisy, self.activation) - clean) ** 2)

        return Task(
            lambda key: mlp_init(key, (64, *self.widths, 64)),
            batch,
            lambda split: first(WHOLE, data[split]),
            loss,
            lower_bound=0.0,
        )
