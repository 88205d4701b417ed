"""Small networks over columns: weights are dicts, inputs are [features, columns]."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def init_affine(
    key: PRNGKeyArray, inputs: int, outputs: int, scale: float, bias: float = 0.0
) -> dict[str, Array]:
    """Weights drawn from N(0, scale^2 / inputs), constant biases."""
    weight = scale / inputs**0.5 * jax.random.normal(key, (inputs, outputs))
    return {"w": weight, "b": jnp.full((outputs,), bias, jnp.float32)}


def affine(weights: dict[str, Array], x: Float[Array, "i n"]) -> Float[Array, "o n"]:
    """w^T x + b for every column."""
    return weights["w"].T @ x + weights["b"][:, None]


def tanh_network(
    hidden: dict[str, Any], readout: dict[str, Array], rows: Sequence[Float[Array, " f"]]
) -> list[Float[Array, " o"]]:
    """The outputs for each row of inputs: tanh layers `first` and `second`, then the readout."""
    if not rows:
        return []
    x = jnp.stack(rows).T
    for layer in ("first", "second"):
        x = jnp.tanh(affine(hidden[layer], x))
    return list(affine(readout, x).T)


def init_bias_gru(
    key: PRNGKeyArray, inputs: int, hidden: int, scale: float, gate_bias: float
) -> dict[str, dict[str, Array]]:
    """Weights of `bias_gru`; both gates start at bias `gate_bias`, so a positive one remembers."""
    gates_key, candidate_key = jax.random.split(key)
    return {
        "gates": init_affine(gates_key, inputs + hidden, 2 * hidden, scale, gate_bias),
        "candidate": init_affine(candidate_key, inputs + hidden, hidden, scale),
    }


def bias_gru(
    weights: dict[str, Any],
    inputs: Sequence[Float[Array, "_ n"]],
    h: Float[Array, "k n"],
    bias: Float[Array, "b #n"] | float = 0.0,
) -> Float[Array, "k n"]:
    """A GRU whose pre-activations (reset, update, candidate) an upper level shifts by `bias`.

    inputs: rows in several pieces, since to join them would cost more than to sum their products.
    h: state, one column per instance. bias: 3k rows, in that order, or 0. Returns the new state; an
    update gate near 1 keeps the old one (1703.04813, released code).
    """
    hidden = h.shape[0]
    gates, candidate = weights["gates"], weights["candidate"]
    weight = jnp.concatenate([gates["w"], candidate["w"]], axis=1)
    shifted = jnp.concatenate([gates["b"], candidate["b"]])[:, None] + bias
    start = 0
    for rows in inputs:
        shifted = shifted + weight[start : start + len(rows)].T @ rows
        start += len(rows)
    opened = jax.nn.sigmoid(shifted[: 2 * hidden] + gates["w"][start:].T @ h)
    reset, update = opened[:hidden], opened[hidden:]
    proposed = jnp.tanh(shifted[2 * hidden :] + candidate["w"][start:].T @ (reset * h))
    return update * h + (1.0 - update) * proposed


def init_linear(key: PRNGKeyArray, inputs: int, outputs: int) -> dict[str, Array]:
    """Normal weights cut at two standard deviations of 1/sqrt(inputs), zero biases (haiku)."""
    weight = jax.random.truncated_normal(key, -2.0, 2.0, (inputs, outputs)) / inputs**0.5
    return {"w": weight, "b": jnp.zeros(outputs)}


def init_lstm(key: PRNGKeyArray, inputs: int, hidden: int) -> dict[str, Array]:
    """Weights of `lstm`: one `init_linear` map from inputs and state to the four gates."""
    return init_linear(key, inputs + hidden, 4 * hidden)


def lstm(
    weights: dict[str, Array],
    x: Float[Array, "i n"],
    state: tuple[Float[Array, "k n"], Float[Array, "k n"]],
) -> tuple[Float[Array, "k n"], Float[Array, "k n"]]:
    """An LSTM in the convention of haiku and sonnet: the new (hidden, cell) state of every column.

    Rows of the pre-activations: input gate, candidate, forget gate, output gate; the forget gate
    gets 1 more than its bias.
    """
    h, c = state
    weight, inputs, hidden = weights["w"], len(x), len(h)
    z = weight[:inputs].T @ x + weight[inputs:].T @ h + weights["b"][:, None]
    opened, proposed, kept, shown = (z[i * hidden : (i + 1) * hidden] for i in range(4))
    c = jax.nn.sigmoid(kept + 1.0) * c + jax.nn.sigmoid(opened) * jnp.tanh(proposed)
    return jax.nn.sigmoid(shown) * jnp.tanh(c), c
