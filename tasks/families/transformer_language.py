"""Character language models: transformers that guess the next symbol of a text."""

from dataclasses import dataclass
from typing import ClassVar

import jax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Task
from tasks.families import dynamics
from tasks.families.attention import transformer, transformer_init
from tasks.families.language import window_task
from tasks.families.layers import affine, check_dropout, cross_entropy, dense
from tasks.families.tokens import (
    SYMBOLS,
    check_vocabulary,
    check_windows,
    folded,
    frequent_bytes,
)
from tasks.names import check_at_least, check_divides


@dataclass(frozen=True)
class TransformerLanguageModel:
    """Next-symbol prediction by a causal transformer that sees up to `sequence` symbols.

    layers: of heads that share the width `hidden`, each followed by a dense network of `mlp` units,
    null for 4 hidden. dropout: the rate in each, whenever the loss is taken. vocabulary: 0 for
    letters without case and the commonest punctuation, else the number of symbols, 2 to 256: the
    most frequent bytes and one for all others. Embeddings of symbols and of trained positions start
    N(0, 1 / 4), weights N(0, 1 / inputs), all times a factor that is log-uniform within the bounds
    initial_scale. The loss is in nats a symbol.
    """

    loss: ClassVar[str] = "cross_entropy"
    architecture: ClassVar[str] = "transformer language model"
    dataset: str = "documentation"
    layers: int = 1
    heads: int = 2
    hidden: int = 16
    mlp: int | None = None
    dropout: float = 0.0
    vocabulary: int = 0
    sequence: int = 16
    batch_size: int = 8
    initial_scale: tuple[float, float] = (1.0, 1.0)
    name: str = "transformer_language_model"

    def __post_init__(self):
        check_windows(self.dataset, self.sequence)
        check_at_least(
            1,
            layers=self.layers,
            heads=self.heads,
            hidden=self.hidden,
            mlp=1 if self.mlp is None else self.mlp,
            batch_size=self.batch_size,
        )
        check_divides("heads", self.heads, self.hidden, f"hidden {self.hidden}")
        check_dropout(self.dropout)
        dynamics.check_bounds(self.initial_scale)
        if self.vocabulary:
            check_vocabulary(self.vocabulary, 256)

    def load(self) -> Data:
        if self.vocabulary:
            return frequent_bytes(self.dataset, self.vocabulary)
        return folded(self.dataset)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return dynamics.draw(key, self.initial_scale)

    def task(self, cfg: Cfg, data: Data) -> Task:
        def init(key: PRNGKeyArray) -> Params:
            return self._init(key, cfg.scale)

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            return cross_entropy(self.logits(params, key, batch[:, :-1]), batch[:, 1:])

        return window_task(init, loss, data, self.batch_size, self.sequence)

    def logits(
        self, params: Params, key: PRNGKeyArray, text: Int[Array, "batch length"]
    ) -> Float[Array, "batch length symbols"]:
        """What follows each symbol, given it and those before it."""
        x = params["embedding"][text] + params["position"][: text.shape[1]]
        x = transformer(params["transformer"], x, key, self.heads, causal=True, rate=self.dropout)
        return affine(params["output"], x)

    def _init(self, key: PRNGKeyArray, scale: Float[Array, ""]) -> Params:
        embed_key, place_key, transformer_key, output_key = jax.random.split(key, 4)
        symbols, half = self.vocabulary or SYMBOLS, 0.5 * scale
        mlp = 4 * self.hidden if self.mlp is None else self.mlp
        return {
            "embedding": half * jax.random.normal(embed_key, (symbols, self.hidden)),
            "position": half * jax.random.normal(place_key, (self.sequence, self.hidden)),
            "transformer": transformer_init(transformer_key, self.layers, self.hidden, mlp, scale),
            "output": dense(output_key, self.hidden, symbols, scale),
        }
