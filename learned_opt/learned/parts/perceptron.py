"""The network of per-parameter rules: a tensor's features, normalised, and the time."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.learned.parts.cells import init_linear
from learned_opt.learned.parts.features import normaliser
from learned_opt.learned.parts.scalar_network import Features, scalar_network


def init_perceptron(key: PRNGKeyArray, sizes: Sequence[int]) -> dict[str, Array]:
    """Weights w0, b0, w1, ... between layers of these sizes, as haiku draws them."""
    theta = {}
    for i, layer_key in enumerate(jax.random.split(key, len(sizes) - 1)):
        layer = init_linear(layer_key, sizes[i], sizes[i + 1])
        theta |= {f"w{i}": layer["w"], f"b{i}": layer["b"]}
    return theta


def perceptron(
    theta: dict[str, Array],
    features: Features,
    base: list[Array],
    shape: tuple[int, ...],
    clock: Float[Array, " c"],
) -> list[Float[Array, "*_"]]:
    """The outputs for every scalar of one tensor, one array each; ReLU between layers.

    features, base, shape: of `scalar_network`. Each feature is divided by its root mean square over
    the tensor; the first weight's last rows are those of `clock`, which is taken as it is.
    """
    inputs = theta["w0"].shape[0] - len(clock)
    scales = jnp.concatenate([normaliser(group) for group in features(*base)])
    first = scales[:, None] * theta["w0"][:inputs]
    layers = [(first, theta["b0"] + clock @ theta["w0"][inputs:])]
    depth = sum(name.startswith("w") for name in theta)
    layers += [(theta[f"w{i}"], theta[f"b{i}"]) for i in range(1, depth)]
    return scalar_network(layers, features, base, shape)
