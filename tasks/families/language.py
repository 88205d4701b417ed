"""Character language models: recurrent networks that guess the next symbol of a text."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Split, Task
from tasks.families import dynamics
from tasks.families.cells import CELLS, recurrent_init, recurrent_outputs
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
from tasks.names import check_at_least, check_name


class Network(NamedTuple):
    """Embedding, recurrent layer, linear layer: from `symbols` symbols to the next one's logits."""

    cell: str
    symbols: int
    embed: int
    hidden: int
    trainable_start: bool


def network_init(key: PRNGKeyArray, network: Network, scale: float | Array) -> Params:
    embed_key, input_key, recurrent_key, output_key = jax.random.split(key, 4)
    layer = recurrent_init(
        (input_key, recurrent_key),
        network.cell,
        network.embed,
        network.hidden,
        scale,
        network.trainable_start,
    )
    return {
        "embedding": scale * jax.random.normal(embed_key, (network.symbols, network.embed)),
        **layer,
        "output": dense(output_key, network.hidden, network.symbols, scale),
    }


def network_loss(params: Params, text: Batch, cell: str) -> Float[Array, ""]:
    """Nats a symbol over int32 text (batch, length), whose first symbol is only read."""
    outputs = recurrent_outputs(params, params["embedding"][text[:, :-1].T], cell)
    return cross_entropy(affine(params["output"], outputs), text[:, 1:].T)


def window_task(
    init: Callable[[PRNGKeyArray], Params],
    loss: Callable[[Params, PRNGKeyArray, Batch], Float[Array, ""]],
    data: Data,
    batch_size: int,
    sequence: int,
) -> Task:
    """Next-symbol prediction over windows of the text, each one symbol longer than `sequence`."""

    def batch(key: PRNGKeyArray, split: Split) -> Batch:
        return window_batch(key, batch_size, data, split, sequence + 1)

    def whole(split: Split) -> Batch:
        return window_whole(data, split, sequence + 1)

    return Task(init, batch, whole, loss, lower_bound=0.0)


def recurrent_task(
    network: Network, cfg: dynamics.Variation, data: Data, batch_size: int, sequence: int
) -> Task:
    def init(key: PRNGKeyArray) -> Params:
        return network_init(key, network, cfg.scale)

    def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
        del key
        return network_loss(params, batch, network.cell)

    return window_task(init, loss, data, batch_size, sequence)


@dataclass(frozen=True)
class LanguageModel:
    """Next-symbol prediction over windows of `sequence` symbols; the loss is in nats a symbol.

    cell: a key of CELLS. dataset: a text; documentation, for training, is another one under every
    Python version. vocabulary: 0 for letters without case and the commonest punctuation, else the
    number of symbols, 2 to 256: the most frequent bytes and one for all others. trainable_start:
    whether the state before the first symbol is trained too, from 0. Weights start
    N(0, 1 / inputs), embeddings N(0, 1), both times a factor that is log-uniform within the bounds
    initial_scale.
    """

    loss: ClassVar[str] = "cross_entropy"
    cell: str = "vanilla"
    dataset: str = "documentation"
    embed: int = 8
    hidden: int = 24
    sequence: int = 16
    batch_size: int = 16
    vocabulary: int = 0
    trainable_start: bool = False
    initial_scale: tuple[float, float] = (1.0, 1.0)
    name: str = "language_model"

    def __post_init__(self):
        check_name("cell", self.cell, CELLS)
        check_windows(self.dataset, self.sequence)
        check_at_least(1, embed=self.embed, hidden=self.hidden, batch_size=self.batch_size)
        if self.vocabulary:
            check_vocabulary(self.vocabulary, 256)
        dynamics.check_bounds(self.initial_scale)

    @property
    def architecture(self) -> str:
        return f"{self.cell} language model"

    @property
    def network(self) -> Network:
        symbols = self.vocabulary or SYMBOLS
        return Network(self.cell, symbols, self.embed, self.hidden, self.trainable_start)

    def load(self) -> Data:
        if self.vocabulary:
            return frequent_bytes(self.dataset, self.vocabulary)
        return folded(self.dataset)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return dynamics.draw(key, self.initial_scale)

    def task(self, cfg: Cfg, data: Data) -> Task:
        return recurrent_task(self.network, cfg, data, self.batch_size, self.sequence)
