"""The few pieces that the networks of the families share."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from tasks.base import Params
from tasks.builders import Arrays

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}


def dense(key: PRNGKeyArray, inputs: int, outputs: int, scale: float | Array = 1.0) -> Params:
    """Weights N(0, scale^2 / inputs) of shape (inputs, outputs) and a zero bias."""
    weight = jax.random.normal(key, (inputs, outputs)) * (scale / math.sqrt(inputs))
    return {"weight": weight, "bias": jnp.zeros(outputs)}


def affine(layer: Params, x: Float[Array, "*n inputs"]) -> Float[Array, "*n outputs"]:
    return x @ layer["weight"] + layer["bias"]


def normalise(x: Float[Array, "*n width"]) -> Float[Array, "*n width"]:
    """Zero mean and unit variance along the last axis."""
    centred = x - jnp.mean(x, -1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5)


def mlp_init(key: PRNGKeyArray, sizes: tuple[int, ...], scale: float | Array = 1.0) -> Params:
    """Dense layers between consecutive `sizes`, as {"layer0": ..., "layer1": ...}."""
    keys = jax.random.split(key, len(sizes) - 1)
    pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return {f"layer{i}": dense(k, n, m, scale) for i, (k, n, m) in enumerate(pairs)}


def mlp_apply(
    params: Params, x: Float[Array, "*n inputs"], activation: str
) -> Float[Array, "*n outputs"]:
    """The layers in turn, activated in between; one with "gain" and "offset" is normalised too."""
    last = len(params) - 1
    for i in range(last):
        layer = params[f"layer{i}"]
        x = affine(layer, x)
        if "gain" in layer:
            x = normalise(x) * layer["gain"] + layer["offset"]
        x = ACTIVATIONS[activation](x)
    return affine(params[f"layer{last}"], x)


def with_layer_norm(params: Params) -> Params:
    """The layers of mlp_init with a gain and an offset for each but the last."""
    last = f"layer{len(params) - 1}"
    return {
        name: layer
        if name == last
        else {**layer, "gain": jnp.ones_like(layer["bias"]), "offset": layer["bias"]}
        for name, layer in params.items()
    }


def cross_entropy(
    logits: Float[Array, "*n classes"], label: Integer[Array, "*n"]
) -> Float[Array, ""]:
    """Mean negative log-likelihood of the labels in nats; never below 0."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, label))


def squared_hinge(
    logits: Float[Array, "*n classes"], label: Integer[Array, "*n"]
) -> Float[Array, ""]:
    """Mean over examples of sum max(0, 1 - t z)^2, t = 1 for the label, -1 for the others."""
    sign = 2 * jax.nn.one_hot(label, logits.shape[-1]) - 1
    return jnp.mean(jnp.sum(jax.nn.relu(1 - sign * logits) ** 2, -1))


LOSSES = {"cross_entropy": cross_entropy, "squared_hinge": squared_hinge}


def pixels(image: Array, size: int) -> Float[Array, "*n size size"]:
    """Bytes 0 .. 16 of 8x8 images as numbers 0 .. 1; size 4 takes means of 2x2 pixels."""
    *n, height, width = image.shape
    values = image.astype(jnp.float32) / 16
    if size == height:
        return values
    blocks = values.reshape(*n, size, height // size, size, width // size)
    return jnp.mean(blocks, axis=(-3, -1))


def standardise(parts: dict[str, Arrays]) -> dict[str, Arrays]:
    """Features shifted and scaled to zero mean and unit variance on the train split."""
    train = parts["train"]["features"].astype(np.float64)
    mean, stdev = train.mean(0), train.std(0)
    return {
        name: {**part, "features": ((part["features"] - mean) / stdev).astype(np.float32)}
        for name, part in parts.items()
    }
