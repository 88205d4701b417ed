"""Recurrent cells, and how a sequence runs through one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Params
from tasks.families.layers import affine, dense


class Cell(NamedTuple):
    """A recurrent cell: how many pre-activations a unit has, and one step.

    step(x, recurrent, state) takes the input's share of the pre-activations, the recurrent weights
    and the state, all but the weights (batch, .), and gives the next state; its first entry is the
    output.
    """

    gates: int
    states: int
    step: Callable[[Array, Params, Any], tuple[Array, ...]]


def _vanilla(x: Array, recurrent: Params, state: tuple[Array, ...]) -> tuple[Array, ...]:
    (h,) = state
    return (jnp.tanh(x + affine(recurrent, h)),)


def _gru(x: Array, recurrent: Params, state: tuple[Array, ...]) -> tuple[Array, ...]:
    (h,) = state
    x_reset, x_update, x_new = jnp.split(x, 3, -1)
    h_reset, h_update, h_new = jnp.split(affine(recurrent, h), 3, -1)
    update = jax.nn.sigmoid(x_update + h_update)
    new = jnp.tanh(x_new + jax.nn.sigmoid(x_reset + h_reset) * h_new)
    return (update * h + (1 - update) * new,)


def _lstm(x: Array, recurrent: Params, state: tuple[Array, ...]) -> tuple[Array, ...]:
    h, memory = state
    write, keep, new, read = jnp.split(x + affine(recurrent, h), 4, -1)
    # The constant keeps memories at the start, when the trained bias is still zero.
    memory = jax.nn.sigmoid(keep + 1) * memory + jax.nn.sigmoid(write) * jnp.tanh(new)
    return (jax.nn.sigmoid(read) * jnp.tanh(memory), memory)


CELLS: dict[str, Cell] = {
    "gru": Cell(gates=3, states=1, step=_gru),
    "lstm": Cell(gates=4, states=2, step=_lstm),
    "vanilla": Cell(gates=1, states=1, step=_vanilla),
}


def recurrent_init(
    keys: tuple[PRNGKeyArray, PRNGKeyArray],
    cell: str,
    inputs: int,
    hidden: int,
    scale: float | Array = 1.0,
    trainable_start: bool = False,
) -> Params:
    """A layer's weights from the input and from its own output; its first state where trainable."""
    input_key, recurrent_key = keys
    kind = CELLS[cell]
    layer = {
        "input": dense(input_key, inputs, kind.gates * hidden, scale)["weight"],
        "recurrent": dense(recurrent_key, hidden, kind.gates * hidden, scale),
    }
    return {**layer, "start": jnp.zeros((kind.states, hidden))} if trainable_start else layer


def recurrent_outputs(
    layer: Params, x: Float[Array, "length batch inputs"], cell: str
) -> Float[Array, "length batch hidden"]:
    """The layer's output after every step."""
    kind = CELLS[cell]
    shares = x @ layer["input"]
    hidden = layer["recurrent"]["weight"].shape[0]
    start = layer.get("start", jnp.zeros((kind.states, hidden), shares.dtype))
    first = tuple(jnp.broadcast_to(row, (x.shape[1], hidden)) for row in start)

    def step(state, share):
        state = kind.step(share, layer["recurrent"], state)
        return state, state[0]

    return jax.lax.scan(step, first, shares)[1]
