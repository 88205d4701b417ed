"""Convolutional classifiers whose 3x3 layers all have one stride, ended by a mean."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Split, Task
from tasks.data import load
from tasks.families.convolution import patches
from tasks.families.images import check_images, image_shape, pixels
from tasks.families.layers import ACTIVATIONS, cross_entropy
from tasks.info import check_classes, info
from tasks.names import check_at_least, check_name
from tasks.sampling import first, minibatch

WHOLE = 256  # examples that stand for a whole split
_EDGES = ((1, 1), (1, 1))  # a kernel reaches one pixel of value 0 beyond each edge


class _Network(nn.Module):
    """3x3 convolutions, each followed by group norm where groups > 0; then mean and linear layer.

    A convolution is a dense layer over patches: under vmap over tasks it stays one matrix product,
    where XLA's grouped convolutions are many times slower on a CPU.
    """

    channels: tuple[int, ...]
    stride: int
    groups: int
    activation: str
    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "n height width channels"]) -> Float[Array, "n classes"]:
        for channels in self.channels:
            seen = patches(x, 3, self.stride, _EDGES)
            x = nn.Dense(channels)(seen.reshape(*seen.shape[:3], -1))
            if self.groups:
                x = nn.GroupNorm(num_groups=self.groups)(x)
            x = ACTIVATIONS[self.activation](x)
        return nn.Dense(self.classes)(jnp.mean(x, axis=(1, 2)))


@dataclass(frozen=True)
class CNNClassifier:
    """Images by 3x3 convolutions of the given channels, a mean over positions and a linear layer.

    dataset: of images with labels. image_size: to which they are shrunk, null for none. stride: of
    every convolution. groups: of the group norm after each, 0 for none; it must divide all
    channels. Starts are flax's: weights of variance 1 / inputs, biases 0.
    """

    loss: ClassVar[str] = "cross_entropy"
    dataset: str = "digits"
    channels: tuple[int, ...] = (8, 12)
    stride: int = 2
    groups: int = 0
    activation: str = "relu"
    batch_size: int = 32
    image_size: int | None = None
    name: str = "cnn_classifier"

    def __post_init__(self):
        check_images(self.dataset, self.image_size)
        check_classes(self.dataset)
        check_name("activation", self.activation, ACTIVATIONS)
        check_at_least(
            1,
            channels=min(self.channels, default=0),
            stride=self.stride,
            batch_size=self.batch_size,
        )
        check_at_least(0, groups=self.groups)
        if self.groups and any(channels % self.groups for channels in self.channels):
            raise ValueError(
                f"groups: {self.groups} is not allowed; it must divide channels {self.channels}"
            )

    def load(self) -> Data:
        return load(self.dataset)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        del key
        return ()

    def task(self, cfg: Cfg, data: Data) -> Task:
        del cfg
        classes = info(self.dataset).classes
        network = _Network(self.channels, self.stride, self.groups, self.activation, classes)

        def init(key: PRNGKeyArray) -> Params:
            image = image_shape(self.dataset, self.image_size)
            return network.init(key, jnp.zeros((1, *image)))["params"]

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            return minibatch(key, self.batch_size, data[split])

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            del key
            x = pixels(batch["image"], self.dataset, self.image_size)
            logits = network.apply({"params": params}, x)
            return cross_entropy(jnp.asarray(logits), batch["label"])

        return Task(init, batch, lambda split: first(WHOLE, data[split]), loss, lower_bound=0.0)
