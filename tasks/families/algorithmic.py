"""Recurrent networks that learn an algorithm on bits: the running parity, and binary addition."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks.base import SPLITS, Batch, Cfg, Data, Params, Split, Task
from tasks.families.cells import CELLS, recurrent_init, recurrent_outputs
from tasks.families.layers import affine, dense
from tasks.names import check_at_least, check_name

WHOLE = 256  # sequences that stand for a whole split
LONGEST = 16


def running_parity(bits: Int[Array, "batch length 1"]) -> Int[Array, "batch length"]:
    """Whether the number of ones up to and including a position is odd."""
    return jnp.cumsum(bits[..., 0], axis=1) % 2


def sum_bits(bits: Int[Array, "batch length 2"]) -> Int[Array, "batch length"]:
    """The bits of the sum of two numbers, the lowest first; a carry beyond the end is lost."""

    def add(carry: Array, pair: Array) -> tuple[Array, Array]:
        total = pair.sum(-1) + carry
        return total // 2, total % 2

    start = jnp.zeros(bits.shape[0], bits.dtype)
    return jax.lax.scan(add, start, bits.swapaxes(0, 1))[1].T


def _check(family: "Parity | BinaryAddition") -> None:
    check_name("cell", family.cell, CELLS)
    check_at_least(1, hidden=family.hidden, layers=family.layers, batch_size=family.batch_size)
    low, high = family.difficulty
    if not 0 <= low <= high <= 1:
        raise ValueError(
            f"difficulty: {family.difficulty} is not allowed; it must be 0 <= low <= high <= 1"
        )


def _sample(family: "Parity | BinaryAddition", key: PRNGKeyArray) -> Cfg:
    low, high = family.difficulty
    difficulty_key, seed_key = jax.random.split(key)
    return {
        "difficulty": low + (high - low) * jax.random.uniform(difficulty_key),
        "seed": jax.random.bits(seed_key),  # of the sequences that stand for a whole split
    }


def _task(
    family: "Parity | BinaryAddition",
    cfg: Cfg,
    inputs: int,
    shortest: int,
    answer: Callable[[Array], Array],
) -> Task:
    """Sequences of `inputs` random bits a position, of which the first are asked for."""
    length = shortest + jnp.round(cfg["difficulty"] * (LONGEST - shortest))

    def sequences(key: PRNGKeyArray, count: int, split: Split) -> Batch:
        key = jax.random.fold_in(key, SPLITS.index(split))
        return (jax.random.bits(key, (count, LONGEST, inputs)) & 1).astype(jnp.int32)

    def init(key: PRNGKeyArray) -> Params:
        output_key, *keys = jax.random.split(key, family.layers + 1)
        sizes = (inputs, *(family.hidden,) * (family.layers - 1))
        layers = {
            f"layer{i}": recurrent_init(
                tuple(jax.random.split(k)), family.cell, size, family.hidden
            )
            for i, (k, size) in enumerate(zip(keys, sizes, strict=True))
        }
        return {**layers, "output": dense(output_key, family.hidden, 2)}

    def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
        del key
        x = (2.0 * batch - 1.0).swapaxes(0, 1)
        for i in range(family.layers):
            x = recurrent_outputs(params[f"layer{i}"], x, family.cell)
        logits = affine(params["output"], x).swapaxes(0, 1)
        wrong = optax.softmax_cross_entropy_with_integer_labels(logits, answer(batch))
        seen = jnp.arange(LONGEST) < length
        return jnp.sum(jnp.where(seen, wrong, 0.0)) / (length * batch.shape[0])

    def batch(key: PRNGKeyArray, split: Split) -> Batch:
        return sequences(key, family.batch_size, split)

    def whole(split: Split) -> Batch:
        return sequences(jax.random.key(cfg["seed"]), WHOLE, split)

    return Task(init, batch, whole, loss, 0.0)


@dataclass(frozen=True)
class Parity:
    """Random bits in, the parity of all bits so far out, at every position.

    cell: a key of CELLS. layers: recurrent layers. difficulty: bounds of a number in 0 .. 1 drawn
    for every task; from 0 to 1 the sequences grow from 2 to 16 bits. The loss is in nats a bit.
    """

    loss: ClassVar[str] = "cross_entropy"
    cell: str = "gru"
    hidden: int = 16
    layers: int = 1
    batch_size: int = 32
    difficulty: tuple[float, float] = (0.0, 1.0)
    name: str = "parity"

    def __post_init__(self):
        _check(self)

    @property
    def architecture(self) -> str:
        return f"{self.cell} parity"

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return _sample(self, key)

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data
        return _task(self, cfg, 1, 2, running_parity)


@dataclass(frozen=True)
class BinaryAddition:
    """Two numbers in, bit by bit and the lowest first; the bits of their sum out.

    As Parity, with sequences of 4 to 16 bits.
    """

    loss: ClassVar[str] = "cross_entropy"
    cell: str = "gru"
    hidden: int = 16
    layers: int = 1
    batch_size: int = 32
    difficulty: tuple[float, float] = (0.0, 1.0)
    name: str = "binary_addition"

    def __post_init__(self):
        _check(self)

    @property
    def architecture(self) -> str:
        return f"{self.cell} binary addition"

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return _sample(self, key)

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data
        return _task(self, cfg, 2, 4, sum_bits)
