"""Convolutions and group norm that stay fast under vmap over tasks, on dictionaries of arrays.

A convolution is a matrix product over patches: under vmap it stays one product, where XLA's grouped
convolutions are many times slower on a CPU.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Params
from tasks.families.layers import initial

PADDINGS = ("same", "valid")


def output_side(side: int, kernel: int, stride: int, padding: str) -> int:
    """How many positions a kernel takes along a side; below 1 where it does not fit."""
    return -(-side // stride) if padding == "same" else (side - kernel) // stride + 1


def edges(side: int, kernel: int, stride: int, padding: str) -> tuple[int, int]:
    """How far a kernel reaches beyond either end of a side: (0, 0) where the padding is valid."""
    if padding == "valid":
        return (0, 0)
    reach = max((output_side(side, kernel, stride, padding) - 1) * stride + kernel - side, 0)
    return (reach // 2, reach - reach // 2)


def patches(
    x: Float[Array, "n height width channels"],
    kernel: int,
    stride: int,
    beyond: tuple[tuple[int, int], tuple[int, int]],
    fill: float = 0.0,
) -> Float[Array, "n rows columns kernel kernel channels"]:
    """The kernel x kernel neighbourhoods of every `stride`-th pixel.

    beyond: how many pixels of value `fill` go before and after the rows, and the columns.
    """
    if any(map(any, beyond)):
        x = jnp.pad(x, ((0, 0), *beyond, (0, 0)), constant_values=fill)
    rows, columns = ((side - kernel) // stride + 1 for side in x.shape[1:3])
    high, wide = (rows - 1) * stride + 1, (columns - 1) * stride + 1
    x = jnp.stack([x[:, i : i + high : stride] for i in range(kernel)], axis=3)
    return jnp.stack([x[:, :, j : j + wide : stride] for j in range(kernel)], axis=4)


def conv_init(
    key: PRNGKeyArray,
    kernel: int,
    inputs: int,
    outputs: int,
    scale: float | Array = 1.0,
    initializer: str = "by_inputs",
) -> Params:
    """Weights (kernel, kernel, inputs, outputs) as `initial` draws them; a bias is the caller's."""
    return {"weight": initial(key, (kernel, kernel, inputs, outputs), scale, initializer)}


def conv(
    params: Params,
    x: Float[Array, "n height width inputs"],
    stride: int = 1,
    padding: str = "same",
) -> Float[Array, "n rows columns outputs"]:
    """The convolution with params["weight"], plus params["bias"] where there is one."""
    kernel, _, inputs, outputs = params["weight"].shape
    height, width = (edges(side, kernel, stride, padding) for side in x.shape[1:3])
    seen = patches(x, kernel, stride, (height, width))
    flat = seen.reshape(*seen.shape[:3], kernel * kernel * inputs)
    y = flat @ params["weight"].reshape(kernel * kernel * inputs, outputs)
    return y + params["bias"] if "bias" in params else y


def max_pool(
    x: Float[Array, "n height width channels"], kernel: int, stride: int
) -> Float[Array, "n rows columns channels"]:
    """The largest of every kernel x kernel neighbourhood within the image, same padding."""
    height, width = (edges(side, kernel, stride, "same") for side in x.shape[1:3])
    return jnp.max(patches(x, kernel, stride, (height, width), fill=-jnp.inf), axis=(3, 4))


def group_norm(
    params: Params, x: Float[Array, "n height width channels"], groups: int
) -> Float[Array, "n height width channels"]:
    """Zero mean and unit variance in every image over positions and the channels of a group.

    Then gain times it plus offset, both of shape (channels,).
    """
    n, height, width, channels = x.shape
    parts = x.reshape(n, height * width, groups, channels // groups)
    centred = parts - jnp.mean(parts, (1, 3), keepdims=True)
    scaled = centred * jax.lax.rsqrt(jnp.mean(centred**2, (1, 3), keepdims=True) + 1e-5)
    return scaled.reshape(x.shape) * params["gain"] + params["offset"]
