"""Small residual networks: pre-activation blocks with group norm, so no state of batches."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Cfg, Data, Params, Task
from tasks.data import load
from tasks.families.classifier import check_image_fields, classification, draw
from tasks.families.convolution import conv, conv_init, group_norm, max_pool
from tasks.families.images import image_shape
from tasks.families.layers import ACTIVATIONS, affine, dense, norm_init
from tasks.info import info
from tasks.names import check_at_least, check_divides, check_name


class _Block(NamedTuple):
    """Two convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    stride: int
    inputs: int
    outputs: int

    @property
    def projects(self) -> bool:
        return self.stride > 1 or self.inputs != self.outputs


@dataclass(frozen=True)
class ResNet:
    """Images through groups of pre-activation residual blocks (1603.05027), then their mean.

    channels, strides: of each group; its first block takes the stride. blocks: in each group.
    kernel: side of all but the 1x1 kernels. initial_channels: of the convolution before the first
    group. max_pool: whether a 3x3 maximum of stride 2 follows it. groups: of each group norm, must
    divide all channels. dataset, image_size, centre, initializer and the bounds initial_scale,
    label_noise and subset are as in mlp_classifier.
    """

    loss: ClassVar[str] = "cross_entropy"
    dataset: str = "digits"
    channels: tuple[int, ...] = (8, 16)
    blocks: tuple[int, ...] = (1, 1)
    strides: tuple[int, ...] = (1, 2)
    kernel: int = 3
    initial_channels: int = 8
    max_pool: bool = False
    groups: int = 4
    activation: str = "relu"
    image_size: int | None = None
    centre: bool = False
    initializer: str = "by_inputs"
    batch_size: int = 32
    initial_scale: tuple[float, float] = (1.0, 1.0)
    label_noise: tuple[float, float] = (0.0, 0.0)
    subset: tuple[float, float] = (1.0, 1.0)
    name: str = "resnet"

    def __post_init__(self):
        check_image_fields(self)
        check_name("activation", self.activation, ACTIVATIONS)
        check_at_least(
            1,
            channels=min(self.channels, default=0),
            blocks=min(self.blocks, default=0),
            strides=min(self.strides, default=0),
            kernel=self.kernel,
            initial_channels=self.initial_channels,
            groups=self.groups,
        )
        for field in ("blocks", "strides"):
            values = getattr(self, field)
            if len(values) != len(self.channels):
                raise ValueError(
                    f"{field}: {values} is not allowed; it must have one entry for each of the "
                    f"{len(self.channels)} channels"
                )
        every = (self.initial_channels, *self.channels)
        check_divides("groups", self.groups, math.gcd(*every), f"all channels {every}")

    def load(self) -> Data:
        return load(self.dataset)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return draw(self, key)

    def task(self, cfg: Cfg, data: Data) -> Task:
        return classification(self, cfg, data, self._init, self._logits)

    def _blocks(self) -> list[_Block]:
        found, inputs = [], self.initial_channels
        for outputs, count, stride in zip(self.channels, self.blocks, self.strides, strict=True):
            for i in range(count):
                found.append(_Block(stride if i == 0 else 1, inputs, outputs))
                inputs = outputs
        return found

    def _init(self, key: PRNGKeyArray, scale: Float[Array, ""]) -> Params:
        start_key, end_key, key = jax.random.split(key, 3)
        how = (scale, self.initializer)
        pixels, end = image_shape(self.dataset, self.image_size)[2], self.channels[-1]
        params = {
            "start": conv_init(start_key, self.kernel, pixels, self.initial_channels, *how),
            "norm": norm_init(end),
            "output": dense(end_key, end, info(self.dataset).classes, *how),
        }
        for i, block in enumerate(self._blocks()):
            first, second, shortcut = jax.random.split(jax.random.fold_in(key, i), 3)
            inputs, outputs = block.inputs, block.outputs
            params[f"block{i}"] = {
                "norm0": norm_init(inputs),
                "conv0": conv_init(first, self.kernel, inputs, outputs, *how),
                "norm1": norm_init(outputs),
                "conv1": conv_init(second, self.kernel, outputs, outputs, *how),
            }
            if block.projects:
                params[f"block{i}"]["shortcut"] = conv_init(shortcut, 1, inputs, outputs, *how)
        return params

    def _logits(
        self, params: Params, key: PRNGKeyArray, x: Float[Array, "n height width channels"]
    ) -> Float[Array, "n classes"]:
        del key

        def activated(norm: Params, x: Array) -> Array:
            return ACTIVATIONS[self.activation](group_norm(norm, x, self.groups))

        x = conv(params["start"], x)
        if self.max_pool:
            x = max_pool(x, kernel=3, stride=2)
        for i, block in enumerate(self._blocks()):
            weights = params[f"block{i}"]
            inner = activated(weights["norm0"], x)
            if block.projects:
                x = conv(weights["shortcut"], inner, block.stride)
            inner = conv(weights["conv0"], inner, block.stride)
            x = x + conv(weights["conv1"], activated(weights["norm1"], inner))
        return affine(params["output"], jnp.mean(activated(params["norm"], x), axis=(1, 2)))
