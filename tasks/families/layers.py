"""The few pieces that the networks of the families share."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from tasks.base import Params
from tasks.builders import Arrays

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "celu": jax.nn.celu,
    "cos": jnp.cos,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "leaky_relu_10": partial(jax.nn.leaky_relu, negative_slope=0.1),
    "leaky_relu_20": partial(jax.nn.leaky_relu, negative_slope=0.2),
    "leaky_relu_40": partial(jax.nn.leaky_relu, negative_slope=0.4),
    "mish": jax.nn.mish,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "sin": jnp.sin,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}

Shape = tuple[int, ...]


def _by_inputs(key: PRNGKeyArray, shape: Shape) -> Array:
    return jax.random.normal(key, shape) * (1 / math.sqrt(math.prod(shape[:-1])))


def _uniform(key: PRNGKeyArray, shape: Shape) -> Array:
    return jax.random.uniform(key, shape, minval=-0.1, maxval=0.1)


def _orthogonal(key: PRNGKeyArray, shape: Shape) -> Array:
    """Orthonormal columns, or rows where these are fewer, uniform among all such matrices.

    A product of random reflections: a vmapped QR decomposition, which takes fewer steps, hangs in
    XLA on CPUs of few cores.
    """
    inputs, outputs = math.prod(shape[:-1]), shape[-1]
    rows, columns = max(inputs, outputs), min(inputs, outputs)
    place = jnp.arange(rows) - jnp.arange(columns)[:, None]
    vectors = jnp.where(place >= 0, jax.random.normal(key, (columns, rows)), 0)
    sign = jnp.where(jnp.diagonal(vectors) < 0, -1.0, 1.0)
    length = sign * jnp.linalg.norm(vectors, axis=1)
    vectors += jnp.where(place == 0, length[:, None], 0)
    vectors /= jnp.linalg.norm(vectors, axis=1, keepdims=True)

    def reflect(matrix: Array, vector: Array) -> tuple[Array, None]:
        return matrix - 2 * jnp.outer(vector, vector @ matrix), None

    start = -sign * jnp.eye(rows, columns)
    matrix, _ = jax.lax.scan(reflect, start, vectors, reverse=True)
    return (matrix if inputs >= outputs else matrix.T).reshape(shape)


# Weights of shape (..., inputs, outputs). by_inputs: N(0, 1 / inputs). uniform, normal and
# truncated_normal do not look at the shape: within 0.1 of 0; standard deviation 0.1; the same, cut
# at 0.2.
INITIALIZERS: dict[str, Callable[[PRNGKeyArray, Shape], Array]] = {
    "by_inputs": _by_inputs,
    "glorot_normal": jax.nn.initializers.glorot_normal(),
    "glorot_uniform": jax.nn.initializers.glorot_uniform(),
    "he_normal": jax.nn.initializers.he_normal(),
    "he_uniform": jax.nn.initializers.he_uniform(),
    "lecun_normal": jax.nn.initializers.lecun_normal(),
    "normal": jax.nn.initializers.normal(0.1),
    "orthogonal": _orthogonal,
    "truncated_normal": jax.nn.initializers.truncated_normal(0.1),
    "uniform": _uniform,
}


def initial(
    key: PRNGKeyArray, shape: Shape, scale: float | Array = 1.0, initializer: str = "by_inputs"
) -> Array:
    """`scale` times weights of a key of INITIALIZERS, float32."""
    return INITIALIZERS[initializer](key, shape) * scale


def dense(
    key: PRNGKeyArray,
    inputs: int,
    outputs: int,
    scale: float | Array = 1.0,
    initializer: str = "by_inputs",
) -> Params:
    """Weights of shape (inputs, outputs), as `initial` draws them, and a zero bias."""
    weight = initial(key, (inputs, outputs), scale, initializer)
    return {"weight": weight, "bias": jnp.zeros(outputs)}


def affine(layer: Params, x: Float[Array, "*n inputs"]) -> Float[Array, "*n outputs"]:
    return x @ layer["weight"] + layer["bias"]


def normalise(x: Float[Array, "*n width"]) -> Float[Array, "*n width"]:
    """Zero mean and unit variance along the last axis."""
    centred = x - jnp.mean(x, -1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5)


def norm_init(width: int) -> Params:
    """The gain and the offset of a norm over `width` channels, which change nothing yet."""
    return {"gain": jnp.ones(width), "offset": jnp.zeros(width)}


def mlp_init(
    key: PRNGKeyArray,
    sizes: tuple[int, ...],
    scale: float | Array = 1.0,
    initializer: str = "by_inputs",
) -> Params:
    """Dense layers between consecutive `sizes`, as {"layer0": ..., "layer1": ...}."""
    keys = jax.random.split(key, len(sizes) - 1)
    pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return {f"layer{i}": dense(k, n, m, scale, initializer) for i, (k, n, m) in enumerate(pairs)}


def dropout(key: PRNGKeyArray, x: Float[Array, "*n"], rate: float) -> Float[Array, "*n"]:
    """Zero with probability `rate`, else x / (1 - rate)."""
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), 0)


def check_dropout(rate: float) -> None:
    """Raises ValueError unless 0 <= rate < 1."""
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: {rate} is not allowed; it must be at least 0 and below 1")


def mlp_apply(
    params: Params,
    x: Float[Array, "*n inputs"],
    activation: str,
    rate: float = 0.0,
    key: PRNGKeyArray | None = None,
) -> Float[Array, "*n outputs"]:
    """The layers in turn, activated in between; one with "gain" and "offset" is normalised too.

    rate: of dropout after each activation, drawn from the key where it is above 0.
    """
    last = len(params) - 1
    for i in range(last):
        layer = params[f"layer{i}"]
        x = affine(layer, x)
        if "gain" in layer:
            x = normalise(x) * layer["gain"] + layer["offset"]
        x = ACTIVATIONS[activation](x)
        if rate and key is not None:
            x = dropout(jax.random.fold_in(key, i), x, rate)
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


def _errors(logits: Array, label: Array) -> Array:
    return logits - jax.nn.one_hot(label, logits.shape[-1])


def mse(logits: Float[Array, "*n classes"], label: Integer[Array, "*n"]) -> Float[Array, ""]:
    """Mean squared difference from the one-hot labels."""
    return jnp.mean(_errors(logits, label) ** 2)


def mae(logits: Float[Array, "*n classes"], label: Integer[Array, "*n"]) -> Float[Array, ""]:
    """Mean absolute difference from the one-hot labels."""
    return jnp.mean(jnp.abs(_errors(logits, label)))


def huber(logits: Float[Array, "*n classes"], label: Integer[Array, "*n"]) -> Float[Array, ""]:
    """Mean of e^2 / 2 where |e| <= 1, else |e| - 1/2, of differences e from one-hot labels."""
    return jnp.mean(optax.huber_loss(_errors(logits, label)))


LOSSES = {
    "cross_entropy": cross_entropy,
    "huber": huber,
    "mae": mae,
    "mse": mse,
    "squared_hinge": squared_hinge,
}


def standardise(parts: dict[str, Arrays]) -> dict[str, Arrays]:
    """Features shifted and scaled to zero mean and unit variance on the train split."""
    train = parts["train"]["features"].astype(np.float64)
    mean, stdev = train.mean(0), train.std(0)
    return {
        name: {**part, "features": ((part["features"] - mean) / stdev).astype(np.float32)}
        for name, part in parts.items()
    }
