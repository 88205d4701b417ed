"""Convolutional classifiers of the 8x8 digits."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Split, Task
from tasks.data import load
from tasks.families.images import pixels
from tasks.families.layers import ACTIVATIONS, cross_entropy
from tasks.names import check_at_least, check_name
from tasks.sampling import first, minibatch

WHOLE = 256  # examples that stand for a whole split


def patches(
    x: Float[Array, "n height width channels"], stride: int
) -> Float[Array, "n rows columns nine_channels"]:
    """The 3x3 neighbourhoods, zero beyond the edge, of every `stride`-th pixel."""
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [
        padded[:, i : i + height : stride, j : j + width : stride]
        for i in range(3)
        for j in range(3)
    ]
    return jnp.concatenate(shifted, axis=-1)


class _Network(nn.Module):
    """3x3 convolutions, each followed by group norm where groups > 0; then mean and linear layer.

    A convolution is a dense layer over patches: under vmap over tasks it stays one matrix product,
    where XLA's grouped convolutions are many times slower on a CPU.
    """

    channels: tuple[int, ...]
    stride: int
    groups: int
    activation: str

    @nn.compact
    def __call__(self, x: Float[Array, "n height width channels"]) -> Float[Array, "n classes"]:
        for channels in self.channels:
            x = nn.Dense(channels)(patches(x, self.stride))
            if self.groups:
                x = nn.GroupNorm(num_groups=self.groups)(x)
            x = ACTIVATIONS[self.activation](x)
        return nn.Dense(10)(jnp.mean(x, axis=(1, 2)))


@dataclass(frozen=True)
class CNNClassifier:
    """Digits by 3x3 convolutions of the given channels, a mean over positions and a linear layer.

    stride: of every convolution. groups: of the group norm after each, 0 for none; it must divide
    all channels. Starts are flax's: weights of variance 1 / inputs, biases 0.
    """

    dataset: ClassVar[str] = "digits"
    channels: tuple[int, ...] = (8, 12)
    stride: int = 2
    groups: int = 0
    activation: str = "relu"
    batch_size: int = 32
    name: str = "cnn_classifier"

    def __post_init__(self):
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
        network = _Network(self.channels, self.stride, self.groups, self.activation)

        def init(key: PRNGKeyArray) -> Params:
            return network.init(key, jnp.zeros((1, 8, 8, 1)))["params"]

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            return minibatch(key, self.batch_size, data[split])

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            del key
            logits = network.apply({"params": params}, pixels(batch["image"], self.dataset))
            return cross_entropy(jnp.asarray(logits), batch["label"])

        return Task(init, batch, lambda split: first(WHOLE, data[split]), loss, lower_bound=0.0)
