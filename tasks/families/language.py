"""Character language models: recurrent networks that guess the next symbol of a text."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Split, Task
from tasks.data import load
from tasks.families.layers import affine, cross_entropy, dense
from tasks.info import BLOCK
from tasks.names import check_at_least, check_name
from tasks.sampling import indices

ALPHABET = "\n abcdefghijklmnopqrstuvwxyz.,'"  # symbols 1 ..; 0 stands for all other bytes
SYMBOLS = len(ALPHABET) + 1
WHOLE = 64  # windows that stand for a whole split
_DATASETS = ("corpus", "documentation")


def fold(text: np.ndarray) -> np.ndarray:
    """Bytes as symbols 0 .. SYMBOLS - 1: without case, and all rare characters as symbol 0."""
    table = np.zeros(256, np.uint8)
    for symbol, character in enumerate(ALPHABET, start=1):
        table[ord(character)] = table[ord(character.upper())] = symbol
    return table[text]


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


def windows(
    text: Integer[Array, "blocks width"], start: Int[Array, " count"], length: int
) -> Int[Array, "count length"]:
    """Stretches of text within a block, numbered through all blocks: one gather."""
    per_block = text.shape[1] - length + 1
    block, offset = start // per_block, start % per_block
    return text[block[:, None], offset[:, None] + jnp.arange(length)].astype(jnp.int32)


@dataclass(frozen=True)
class LanguageModel:
    """Next-symbol prediction over windows of `sequence` symbols; the loss is in nats a symbol.

    cell: a key of CELLS. dataset: documentation (another text under every Python version, for
    training) or corpus. Weights start N(0, 1 / inputs), embeddings N(0, 1).
    """

    cell: str = "vanilla"
    dataset: str = "documentation"
    embed: int = 8
    hidden: int = 24
    sequence: int = 16
    batch_size: int = 16
    name: str = "language_model"

    def __post_init__(self):
        check_name("cell", self.cell, CELLS)
        check_name("dataset", self.dataset, _DATASETS)
        check_at_least(
            1,
            embed=self.embed,
            hidden=self.hidden,
            sequence=self.sequence,
            batch_size=self.batch_size,
        )
        if self.sequence >= BLOCK:
            raise ValueError(
                f"sequence: {self.sequence} is not allowed; it must be below {BLOCK}, the length "
                "of a block of text"
            )

    def load(self) -> Data:
        return {split: fold(part["text"]) for split, part in load(self.dataset).items()}

    def sample(self, key: PRNGKeyArray) -> Cfg:
        del key
        return ()

    def task(self, cfg: Cfg, data: Data) -> Task:
        del cfg
        length = self.sequence + 1

        def count(split: Split) -> int:
            blocks, width = data[split].shape
            return blocks * (width - length + 1)

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            return windows(data[split], indices(key, self.batch_size, count(split)), length)

        def whole(split: Split) -> Batch:
            return windows(data[split], jnp.arange(WHOLE) * (count(split) // WHOLE), length)

        return Task(self._init, batch, whole, self._loss, lower_bound=0.0)

    def _init(self, key: PRNGKeyArray) -> Params:
        embed_key, input_key, recurrent_key, output_key = jax.random.split(key, 4)
        width = CELLS[self.cell].gates * self.hidden
        return {
            "embedding": jax.random.normal(embed_key, (SYMBOLS, self.embed)),
            "input": dense(input_key, self.embed, width)["weight"],
            "recurrent": dense(recurrent_key, self.hidden, width),
            "output": dense(output_key, self.hidden, SYMBOLS),
        }

    def _loss(self, params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
        del key
        cell = CELLS[self.cell]
        shares = params["embedding"][batch[:, :-1].T] @ params["input"]  # (sequence, batch, .)
        zero = jnp.zeros((batch.shape[0], self.hidden), shares.dtype)

        def step(state, share):
            state = cell.step(share, params["recurrent"], state)
            return state, state[0]

        _, outputs = jax.lax.scan(step, (zero,) * cell.states, shares)
        return cross_entropy(affine(params["output"], outputs), batch[:, 1:].T)
