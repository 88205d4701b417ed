"""Recurrent networks that learn an algorithm: the parity of bits, the sum of binary numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks.base import SPLITS, Batch, Cfg, Data, Params, Split, Task
from tasks.families.cells import CELLS, recurrent_init, recurrent_outputs
from tasks.families.layers import affine, check_dropout, dense, dropout
from tasks.names import check_at_least, check_fractions, check_name
from tasks.sampling import uniform

WHOLE = 256  # sequences that stand for a whole split
Bits = Int[Array, "batch length"]


def running_parity(bits: Bits) -> Bits:
    """Whether the number of ones so far is odd."""
    return jnp.cumsum(bits, 1) % 2


def binary_sum(one: Bits, other: Bits) -> Bits:
    """The bits of the sum of two numbers, all lowest bit first; the last carry is dropped."""
    places = jnp.arange(one.shape[1])
    total = jnp.sum((one + other) << places, 1, keepdims=True)
    return (total >> places) & 1


def masked_mean(values: Float[Array, "batch length"], count: Int[Array, ""]) -> Float[Array, ""]:
    """The mean over the first `count` places of every row."""
    kept = jnp.arange(values.shape[1]) < count
    return jnp.sum(jnp.where(kept, values, 0)) / (count * values.shape[0])


def _check(fields: "Parity | BinaryAddition", shortest: int) -> None:
    check_name("cell", fields.cell, CELLS)
    check_at_least(1, hidden=fields.hidden, batch_size=fields.batch_size)
    if not shortest <= fields.length <= 16:
        raise ValueError(
            f"length: {fields.length} is not allowed; it must be at least {shortest} and at most 16"
        )
    if fields.layers not in (1, 2):
        raise ValueError(f"layers: {fields.layers} is not allowed; it must be 1 or 2")
    check_dropout(fields.dropout)
    check_fractions("difficulty", fields.difficulty)


def _sample(key: PRNGKeyArray, fields: "Parity | BinaryAddition", shortest: int) -> Cfg:
    """seed: of the sequences that stand for a split. count: of their places in the loss."""
    count_key, seed_key = jax.random.split(key)
    difficulty = uniform(count_key, fields.difficulty)
    count = shortest + jnp.round(difficulty * (fields.length - shortest))
    return {"seed": jax.random.bits(seed_key), "count": count.astype(jnp.int32)}


def _task(
    cfg: Cfg,
    fields: "Parity | BinaryAddition",
    streams: int,
    answer: Callable[[Int[Array, "n b l"]], Bits],
) -> Task:
    """`answer` takes the bits of all streams and gives the bit to say at every place."""

    def examples(key: PRNGKeyArray, size: int) -> Batch:
        shape = (streams, size, fields.length)
        bits = jax.random.bernoulli(key, 0.5, shape).astype(jnp.int32)
        return {"bits": bits, "answer": answer(bits)}

    def batch(key: PRNGKeyArray, split: Split) -> Batch:
        return examples(jax.random.fold_in(key, SPLITS.index(split)), fields.batch_size)

    def whole(split: Split) -> Batch:
        key = jax.random.fold_in(jax.random.key(cfg["seed"]), SPLITS.index(split))
        return examples(key, WHOLE)

    def init(key: PRNGKeyArray) -> Params:
        *keys, output_key = jax.random.split(key, 2 * fields.layers + 1)
        inputs = (streams, fields.hidden)
        layers = {
            f"layer{i}": recurrent_init(
                (keys[2 * i], keys[2 * i + 1]), fields.cell, inputs[i], fields.hidden
            )
            for i in range(fields.layers)
        }
        return {**layers, "output": dense(output_key, fields.hidden, 2)}

    def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
        x = 2.0 * batch["bits"].transpose(2, 1, 0) - 1
        for i in range(fields.layers):
            layer = params[f"layer{i}"]
            x = recurrent_outputs(layer, x.astype(layer["input"].dtype), fields.cell)
            if fields.dropout:
                x = dropout(jax.random.fold_in(key, i), x, fields.dropout)
        nats = optax.softmax_cross_entropy_with_integer_labels(
            affine(params["output"], x), batch["answer"].T
        )
        return masked_mean(nats.T, cfg["count"])

    return Task(init, batch, whole, loss, lower_bound=0.0)


@dataclass(frozen=True)
class Parity:
    """After every bit of `length` fair ones: is the number of ones so far odd? Nats a bit.

    cell: a key of CELLS. layers: 1 or 2 of them. dropout: the rate after each, whenever the loss is
    taken. difficulty: bounds of a uniform number; at 0 the first 2 places of a sequence count, at 1
    all `length`, which is 2 to 16.
    """

    loss: ClassVar[str] = "cross_entropy"
    cell: str = "gru"
    length: int = 16
    hidden: int = 16
    layers: int = 1
    dropout: float = 0.0
    batch_size: int = 32
    difficulty: tuple[float, float] = (0.0, 1.0)
    name: str = "parity"

    def __post_init__(self):
        _check(self, shortest=2)

    @property
    def architecture(self) -> str:
        return f"{self.cell} parity"

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return _sample(key, self, shortest=2)

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data
        return _task(cfg, self, 1, lambda bits: running_parity(bits[0]))


@dataclass(frozen=True)
class BinaryAddition:
    """Two numbers of `length` fair bits, lowest first: after each pair the bit of their sum.

    As Parity, but `length` is 4 to 16, and at difficulty 0 the first 4 places count.
    """

    loss: ClassVar[str] = "cross_entropy"
    cell: str = "gru"
    length: int = 16
    hidden: int = 16
    layers: int = 1
    dropout: float = 0.0
    batch_size: int = 32
    difficulty: tuple[float, float] = (0.0, 1.0)
    name: str = "binary_addition"

    def __post_init__(self):
        _check(self, shortest=4)

    @property
    def architecture(self) -> str:
        return f"{self.cell} binary addition"

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return _sample(key, self, shortest=4)

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data
        return _task(cfg, self, 2, lambda bits: binary_sum(bits[0], bits[1]))
