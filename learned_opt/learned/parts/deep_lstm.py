"""LSTM layers on top of each other and a number read from the last, over columns."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.learned.parts.cells import affine, init_linear, init_lstm, lstm


class Layer(NamedTuple):
    """The state of one LSTM layer of k units, for n columns."""

    hidden: Float[Array, "k n"]
    cell: Float[Array, "k n"]


def check_layers(layers: tuple[int, ...]) -> None:
    """Raises ValueError unless these are the units of one layer or several."""
    if not layers or any(type(units) is not int or units < 1 for units in layers):
        raise ValueError(f"layers: {layers!r} must be one or more positive integers")


def init_deep_lstm(key: PRNGKeyArray, inputs: int, layers: tuple[int, ...]) -> dict[str, Any]:
    """Fresh weights for so many inputs and layers of so many units."""
    *layer_keys, readout_key = jax.random.split(key, len(layers) + 1)
    weights = {
        f"lstm{i}": init_lstm(layer_key, width, units)
        for i, (layer_key, width, units) in enumerate(
            zip(layer_keys, (inputs, *layers), layers, strict=False)
        )
    }
    return weights | {"readout": init_linear(readout_key, layers[-1], 1)}


def start_deep_lstm(layers: tuple[int, ...], columns: int) -> tuple[Layer, ...]:
    """Zeros."""
    return tuple(
        Layer(jnp.zeros((units, columns)), jnp.zeros((units, columns))) for units in layers
    )


def deep_lstm(
    weights: dict[str, Any], x: Float[Array, "i n"], state: tuple[Layer, ...]
) -> tuple[Float[Array, " n"], tuple[Layer, ...]]:
    """One step of every column: what is read out, and the new state."""
    new = step_layers(weights, x, state)
    return affine(weights["readout"], new[-1].hidden)[0], new


def step_layers(
    weights: dict[str, Any], x: Float[Array, "i n"], state: tuple[Layer, ...]
) -> tuple[Layer, ...]:
    """The new state of every column."""
    new = []
    for i, layer in enumerate(state):
        new.append(Layer(*lstm(weights[f"lstm{i}"], x, (layer.hidden, layer.cell))))
        x = new[-1].hidden
    return tuple(new)
