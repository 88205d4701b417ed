"""Language models by transformers: which symbol comes next, from all those before it."""

from dataclasses import dataclass
from typing import ClassVar

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Split, Task
from tasks.families.attention import transformer, transformer_init
from tasks.families.layers import affine, cross_entropy, dense
from tasks.families.tokens import (
    SYMBOLS,
    check_vocabulary,
    check_windows,
    folded,
    frequent_bytes,
    window_batch,
    window_whole,
)
from tasks.names import check_at_least, check_range
from tasks.sampling import log_uniform


@dataclass(frozen=True)
class TransformerLanguageModel:
    """Next-symbol prediction by causal self-attention; the loss is in nats a symbol.

    layers: pre-norm blocks of `heads` heads, which must divide `hidden`, and a dense network of
    four times as many units. sequence: symbols it sees at most; positions are learned. dropout: 0
    to below 1. dataset, vocabulary, initial_scale: as in LanguageModel.
    """

    loss: ClassVar[str] = "cross_entropy"
    dataset: str = "documentation"
    vocabulary: int = 0
    layers: int = 1
    heads: int = 2
    hidden: int = 16
    sequence: int = 16
    batch_size: int = 8
    dropout: float = 0.0
    initial_scale: tuple[float, float] = (1.0, 1.0)
    name: str = "transformer_language_model"

    def __post_init__(self):
        check_windows(self.dataset, self.sequence)
        check_at_least(
            1, layers=self.layers, heads=self.heads, hidden=self.hidden, batch_size=self.batch_size
        )
        check_range("initial_scale", self.initial_scale)
        if self.hidden % self.heads:
            raise ValueError(
                f"heads: {self.heads} is not allowed; it must divide hidden, {self.hidden}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(
                f"dropout: {self.dropout} is not allowed; it must be at least 0 and below 1"
            )
        if self.vocabulary:
            check_vocabulary(self.vocabulary, 256)

    def load(self) -> Data:
        if not self.vocabulary:
            return folded(self.dataset)
        return frequent_bytes(self.dataset, self.vocabulary)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return {"scale": log_uniform(key, self.initial_scale)}

    def task(self, cfg: Cfg, data: Data) -> Task:
        length, symbols = self.sequence + 1, self.vocabulary or SYMBOLS

        def init(key: PRNGKeyArray) -> Params:
            embed_key, place_key, blocks_key, output_key = jax.random.split(key, 4)
            scale = cfg["scale"]
            return {
                "embedding": scale * jax.random.normal(embed_key, (symbols, self.hidden)),
                "place": 0.1 * scale * jax.random.normal(place_key, (self.sequence, self.hidden)),
                "blocks": transformer_init(
                    blocks_key, self.layers, self.hidden, 4 * self.hidden, scale
                ),
                "output": dense(output_key, self.hidden, symbols, scale),
            }

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            return window_batch(key, self.batch_size, data, split, length)

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            x = params["embedding"][batch[:, :-1]] + params["place"]
            x = transformer(params["blocks"], x, key, self.heads, causal=True, rate=self.dropout)
            return cross_entropy(affine(params["output"], x), batch[:, 1:])

        return Task(init, batch, lambda split: window_whole(data, split, length), loss, 0.0)
