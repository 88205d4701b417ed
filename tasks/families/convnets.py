"""Plain convolutional classifiers: 3x3 layers, then dense layers or pooling over positions."""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Cfg, Data, Params, Task
from tasks.data import load
from tasks.families.classifier import check_image_fields, classification, draw
from tasks.families.convolution import PADDINGS, conv, conv_init, output_side
from tasks.families.images import image_shape
from tasks.families.layers import ACTIVATIONS, dense
from tasks.info import info
from tasks.names import check_at_least, check_name

KERNEL = 3

# name -> strides of the layers, repeated as often as there are layers
STRIDES: dict[str, tuple[int, ...]] = {"all_two": (2,), "one_two": (1, 2), "two_one": (2, 1)}

POOLINGS = {
    "max": lambda x: jnp.max(x, axis=(1, 2)),
    "mean": lambda x: jnp.mean(x, axis=(1, 2)),
    "squared_mean": lambda x: jnp.mean(x**2, axis=(1, 2)),
}


class Layer(NamedTuple):
    """One convolution; its input and output are images of the sides and channels `shapes`."""

    stride: int
    padding: str
    before: tuple[int, int, int]
    after: tuple[int, int, int]


def stack(
    image: tuple[int, int, int],
    channels: tuple[int, ...],
    strides: str | tuple[int, ...],
    padding: str | tuple[str, ...],
) -> tuple[Layer, ...]:
    """The convolutions over an image (height, width, channels).

    Raises ValueError where a field is not allowed, or nothing of the image would be left.
    """
    check_at_least(1, channels=min(channels, default=1))
    if isinstance(strides, str):
        check_name("strides", strides, STRIDES)
        pattern = STRIDES[strides]
        strides = tuple(pattern[i % len(pattern)] for i in range(len(channels)))
    paddings = (padding,) * len(channels) if isinstance(padding, str) else padding
    for field, values in (("strides", strides), ("padding", paddings)):
        if len(values) != len(channels):
            raise ValueError(
                f"{field}: {values} is not allowed; it must have one entry for each of the "
                f"{len(channels)} channels"
            )
    check_at_least(1, strides=min(strides, default=1))
    layers = []
    for i, (count, stride, pad) in enumerate(zip(channels, strides, paddings, strict=True)):
        check_name("padding", pad, PADDINGS)
        height, width = (output_side(side, KERNEL, stride, pad) for side in image[:2])
        if min(height, width) < 1:
            raise ValueError(
                f"padding: {padding} is not allowed; layer {i} gets an image of "
                f"{image[0]}x{image[1]}, in which a {KERNEL}x{KERNEL} kernel has no valid position"
            )
        layers.append(Layer(stride, pad, image, (height, width, count)))
        image = layers[-1].after
    return tuple(layers)


def _with_bias(layer: Params, bias: bool) -> Params:
    """The weight, and a zero bias where there is one."""
    weight = layer["weight"]
    return {"weight": weight, "bias": jnp.zeros(weight.shape[-1])} if bias else {"weight": weight}


def _linear(layer: Params, x: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
    y = x @ layer["weight"]
    return y + layer["bias"] if "bias" in layer else y


def _convolve(
    params: Params, x: Float[Array, "n height width channels"], layers: tuple[Layer, ...], act: str
) -> Float[Array, "n rows columns outputs"]:
    for i, layer in enumerate(layers):
        x = ACTIVATIONS[act](conv(params[f"conv{i}"], x, layer.stride, layer.padding))
    return x


@dataclass(frozen=True)
class ConvFC:
    """Images through 3x3 convolutions, then dense layers (TaskSet's conv_fc, 2002.11887).

    channels, strides, padding: of each convolution. strides may be all_two, one_two or two_one
    (1, 2, 1, 2 ...), padding may be same or valid for all. widths: of the dense layers before the
    last. bias: whether layers add one. dataset, image_size, centre, initializer and the bounds
    initial_scale, label_noise and subset are as in mlp_classifier.
    """

    loss: ClassVar[str] = "cross_entropy"
    dataset: str = "digits"
    channels: tuple[int, ...] = (8, 16)
    strides: str | tuple[int, ...] = "all_two"
    padding: str | tuple[str, ...] = "same"
    widths: tuple[int, ...] = (32,)
    bias: bool = True
    activation: str = "relu"
    image_size: int | None = None
    centre: bool = False
    initializer: str = "by_inputs"
    batch_size: int = 32
    initial_scale: tuple[float, float] = (1.0, 1.0)
    label_noise: tuple[float, float] = (0.0, 0.0)
    subset: tuple[float, float] = (1.0, 1.0)
    name: str = "conv_fc"

    def __post_init__(self):
        check_image_fields(self)
        check_name("activation", self.activation, ACTIVATIONS)
        check_at_least(1, widths=min(self.widths, default=1))
        _layers(self)

    def load(self) -> Data:
        return load(self.dataset)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return draw(self, key)

    def task(self, cfg: Cfg, data: Data) -> Task:
        layers, classes = _layers(self), info(self.dataset).classes

        def logits(params: Params, key: PRNGKeyArray, x: Array) -> Array:
            del key
            x = _convolve(params, x, layers, self.activation)
            x = x.reshape(len(x), -1)
            for i in range(len(self.widths)):
                x = ACTIVATIONS[self.activation](_linear(params[f"dense{i}"], x))
            return _linear(params["output"], x)

        def init(key: PRNGKeyArray, scale: Float[Array, ""]) -> Params:
            sizes = (math.prod(_end(self)), *self.widths, classes)
            return _init(key, self, sizes, scale)

        return classification(self, cfg, data, init, logits)


@dataclass(frozen=True)
class ConvPooling:
    """Images through 3x3 convolutions, pooled over positions for a linear layer (2002.11887).

    pooling: mean, max or squared_mean (of squares). All else is as in conv_fc.
    """

    loss: ClassVar[str] = "cross_entropy"
    dataset: str = "digits"
    channels: tuple[int, ...] = (8, 16)
    strides: str | tuple[int, ...] = "two_one"
    padding: str | tuple[str, ...] = "same"
    pooling: str = "mean"
    bias: bool = True
    activation: str = "relu"
    image_size: int | None = None
    centre: bool = False
    initializer: str = "by_inputs"
    batch_size: int = 32
    initial_scale: tuple[float, float] = (1.0, 1.0)
    label_noise: tuple[float, float] = (0.0, 0.0)
    subset: tuple[float, float] = (1.0, 1.0)
    name: str = "conv_pooling"

    def __post_init__(self):
        check_image_fields(self)
        check_name("activation", self.activation, ACTIVATIONS)
        check_name("pooling", self.pooling, POOLINGS)
        _layers(self)

    def load(self) -> Data:
        return load(self.dataset)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return draw(self, key)

    def task(self, cfg: Cfg, data: Data) -> Task:
        layers, classes = _layers(self), info(self.dataset).classes

        def logits(params: Params, key: PRNGKeyArray, x: Array) -> Array:
            del key
            x = _convolve(params, x, layers, self.activation)
            return _linear(params["output"], POOLINGS[self.pooling](x))

        def init(key: PRNGKeyArray, scale: Float[Array, ""]) -> Params:
            return _init(key, self, (_end(self)[2], classes), scale)

        return classification(self, cfg, data, init, logits)


def _layers(family: ConvFC | ConvPooling) -> tuple[Layer, ...]:
    image = image_shape(family.dataset, family.image_size)
    return stack(image, family.channels, family.strides, family.padding)


def _end(family: ConvFC | ConvPooling) -> tuple[int, int, int]:
    """The (height, width, channels) that the last convolution gives."""
    layers = _layers(family)
    return layers[-1].after if layers else image_shape(family.dataset, family.image_size)


def _init(
    key: PRNGKeyArray,
    family: ConvFC | ConvPooling,
    sizes: tuple[int, ...],
    scale: Float[Array, ""],
) -> Params:
    """{"conv0": ..., "dense0": ..., "output": ...}; sizes: of the dense layers' ends."""
    layers = _layers(family)
    keys = iter(jax.random.split(key, len(layers) + len(sizes) - 1))
    names = [*(f"dense{i}" for i in range(len(sizes) - 2)), "output"]
    how = (scale, family.initializer)
    params = {
        f"conv{i}": conv_init(next(keys), KERNEL, layer.before[2], layer.after[2], *how)
        for i, layer in enumerate(layers)
    } | {
        name: dense(next(keys), inputs, outputs, *how)
        for name, inputs, outputs in zip(names, sizes[:-1], sizes[1:], strict=True)
    }
    return {name: _with_bias(layer, family.bias) for name, layer in params.items()}
