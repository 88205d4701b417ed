"""A language model without recurrence: gated convolutions that look ever further back."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Split, Task
from tasks.data import load
from tasks.families.layers import affine, cross_entropy, dense, normalise
from tasks.families.tokens import SYMBOLS, fold, windows
from tasks.info import check_dataset, info
from tasks.names import check_at_least
from tasks.sampling import indices

WHOLE = 64  # windows that stand for a whole split


def shift(x: Float[Array, "n length width"], by: int) -> Float[Array, "n length width"]:
    """What stood `by` positions earlier, zero before the beginning."""
    return jnp.pad(x, ((0, 0), (by, 0), (0, 0)))[:, : x.shape[1]]


@functools.cache
def _symbols(dataset: str) -> dict[str, np.ndarray]:
    return {split: fold(part["text"]) for split, part in load(dataset).items()}


@dataclass(frozen=True)
class ConvLanguageModel:
    """Next-symbol prediction over windows of `sequence` symbols by `depth` gated convolutions.

    Layer i sees each position and the one 2^i before it, normalised, and adds value * sigmoid(gate)
    to what comes in, both linear in what it sees. width: of an embedded symbol. dataset: a text.
    The loss is in nats a symbol.
    """

    loss: ClassVar[str] = "cross_entropy"
    dataset: str = "documentation"
    width: int = 24
    depth: int = 3
    sequence: int = 16
    batch_size: int = 16
    name: str = "conv_language_model"

    def __post_init__(self):
        check_dataset(self.dataset, "text")
        check_at_least(
            1,
            width=self.width,
            depth=self.depth,
            sequence=self.sequence,
            batch_size=self.batch_size,
        )
        block = info(self.dataset).shape[0]
        if self.sequence >= block:
            raise ValueError(
                f"sequence: {self.sequence} is not allowed; it must be below {block}, the length "
                "of a block of text"
            )
        if self.sequence < self.reach:
            raise ValueError(
                f"depth: {self.depth} is not allowed; the last layer looks {self.reach} symbols "
                f"back, which must be at most sequence, {self.sequence}"
            )

    @property
    def reach(self) -> int:
        """How far back the last layer looks."""
        return 2 ** (self.depth - 1)

    def load(self) -> Data:
        return _symbols(self.dataset)

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

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            del key
            return cross_entropy(self.logits(params, batch[:, :-1]), batch[:, 1:])

        return Task(self._init, batch, whole, loss, lower_bound=0.0)

    def _init(self, key: PRNGKeyArray) -> Params:
        embed_key, output_key, *keys = jax.random.split(key, self.depth + 2)
        layers = {
            f"layer{i}": dense(key, 2 * self.width, 2 * self.width) for i, key in enumerate(keys)
        }
        return {
            "embedding": jax.random.normal(embed_key, (SYMBOLS, self.width)),
            "output": dense(output_key, self.width, SYMBOLS),
            **layers,
        }

    def logits(
        self, params: Params, symbol: Int[Array, "n length"]
    ) -> Float[Array, "n length symbols"]:
        """Of the symbol that follows each position, from those up to it."""
        x = params["embedding"][symbol]
        for i in range(self.depth):
            inner = normalise(x)
            seen = jnp.concatenate([inner, shift(inner, 2**i)], axis=-1)
            value, gate = jnp.split(affine(params[f"layer{i}"], seen), 2, -1)
            x = x + value * jax.nn.sigmoid(gate)
        return affine(params["output"], x)
