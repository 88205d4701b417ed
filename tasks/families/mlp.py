"""Dense networks: softmax regression on generated clusters, classifiers, an autoencoder."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import SPLITS, Batch, Cfg, Data, Params, Split, Task
from tasks.data import load
from tasks.families import dynamics
from tasks.families.images import check_images, image_shape, load_images, pixels
from tasks.families.layers import (
    ACTIVATIONS,
    INITIALIZERS,
    LOSSES,
    affine,
    check_dropout,
    cross_entropy,
    dense,
    mlp_apply,
    mlp_init,
    standardise,
    with_layer_norm,
)
from tasks.info import check_classes, check_dataset, info
from tasks.names import check_at_least, check_name, check_range
from tasks.sampling import first, indices, log_uniform, minibatch

WHOLE = 512  # examples that stand for a whole split


@dataclass(frozen=True)
class SoftmaxRegression:
    """Linear classification of normal clusters, drawn afresh for every minibatch.

    The centres are N(0, separation^2 / dim) in each coordinate, the noise around them N(0, 1);
    separation is log-uniform within its bounds, so some tasks can be solved and some cannot.
    """

    loss: ClassVar[str] = "cross_entropy"
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
    """A classifier of images or of table rows with hidden layers of the given widths.

    dataset: of images, or a table with labels, whose features are standardised. image_size: to
    which images are shrunk by averaging, null for none. centre: pixels lie in -1 .. 1 instead of
    0 .. 1. initializer: a key of INITIALIZERS. norm: none or layer, before each activation.
    dropout: the rate after each, whenever the loss is taken. loss: a key of LOSSES.

    Bounds of what differs between tasks: initial_scale, a factor on the starting weights
    (log-uniform); label_noise, the share of training examples with a random label; subset, the
    share of the training examples there is (both uniform).
    """

    dataset: str = "digits"
    widths: tuple[int, ...] = (16,)
    activation: str = "relu"
    image_size: int | None = None
    centre: bool = False
    initializer: str = "by_inputs"
    norm: str = "none"
    dropout: float = 0.0
    loss: str = "cross_entropy"
    batch_size: int = 32
    initial_scale: tuple[float, float] = (1.0, 1.0)
    label_noise: tuple[float, float] = (0.0, 0.0)
    subset: tuple[float, float] = (1.0, 1.0)
    name: str = "mlp_classifier"

    def __post_init__(self):
        if info(self.dataset).kind == "image":
            check_images(self.dataset, self.image_size)
        else:
            check_dataset(self.dataset, "table")
            if self.image_size is not None or self.centre:
                field = "centre" if self.image_size is None else "image_size"
                raise ValueError(
                    f"{field}: {getattr(self, field)} is not allowed; {self.dataset} has no images"
                )
        check_classes(self.dataset)
        check_name("activation", self.activation, ACTIVATIONS)
        check_name("initializer", self.initializer, INITIALIZERS)
        check_name("norm", self.norm, ("none", "layer"))
        check_name("loss", self.loss, LOSSES)
        check_at_least(1, batch_size=self.batch_size, widths=min(self.widths, default=1))
        check_dropout(self.dropout)
        dynamics.check_bounds(self.initial_scale, self.label_noise, self.subset)

    @property
    def sizes(self) -> tuple[int, ...]:
        about = info(self.dataset)
        shape = about.shape
        if about.kind == "image":
            shape = image_shape(self.dataset, self.image_size)
        return (math.prod(shape), *self.widths, about.classes)

    def load(self) -> Data:
        parts = load(self.dataset)
        return standardise(parts) if info(self.dataset).kind == "table" else parts

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return dynamics.draw(key, self.initial_scale, self.label_noise, self.subset)

    def task(self, cfg: Cfg, data: Data) -> Task:
        classes = info(self.dataset).classes

        def init(key: PRNGKeyArray) -> Params:
            params = mlp_init(key, self.sizes, cfg.scale, self.initializer)
            return with_layer_norm(params) if self.norm == "layer" else params

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            return dynamics.minibatch(key, self.batch_size, data, split, cfg, classes)

        def whole(split: Split) -> Batch:
            return dynamics.whole(WHOLE, data, split, cfg, classes)

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            if info(self.dataset).kind == "image":
                x = pixels(batch["image"], self.dataset, self.image_size, self.centre)
                x = x.reshape(-1, self.sizes[0])
            else:
                x = batch["features"]
            logits = mlp_apply(params, x, self.activation, self.dropout, key)
            return LOSSES[self.loss](logits, batch["label"])

        return Task(init, batch, whole, loss, lower_bound=0.0)


@dataclass(frozen=True)
class DenoisingAutoencoder:
    """Digits rebuilt from noisy ones through hidden layers of the given widths.

    noise: standard deviation of what is added to the pixels, which lie in 0 .. 1. The loss is the
    mean squared error per pixel against the clean digit.
    """

    dataset: ClassVar[str] = "digits"
    loss: ClassVar[str] = "mse"
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
        return load_images(self.dataset)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        del key
        return ()

    def task(self, cfg: Cfg, data: Data) -> Task:
        del cfg

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            return minibatch(key, self.batch_size, data[split])

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            clean = pixels(batch["image"], self.dataset).reshape(-1, 64)
            noisy = clean + self.noise * jax.random.normal(key, clean.shape)
            return jnp.mean((mlp_apply(params, noisy, self.activation) - clean) ** 2)

        return Task(
            lambda key: mlp_init(key, (64, *self.widths, 64)),
            batch,
            lambda split: first(WHOLE, data[split]),
            loss,
            lower_bound=0.0,
        )
