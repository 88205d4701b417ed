"""Recurrent networks that sort texts into classes."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Split, Task
from tasks.families.cells import CELLS, recurrent_init, recurrent_outputs
from tasks.families.layers import affine, cross_entropy, dense
from tasks.families.tokens import frequent_bytes
from tasks.info import check_dataset, info
from tasks.names import check_at_least, check_name
from tasks.sampling import first, minibatch

WHOLE = 256  # texts that stand for a whole split

POOLINGS = {
    "average": lambda outputs: jnp.mean(outputs, 0),
    "last": lambda outputs: outputs[-1],
    "max": lambda outputs: jnp.max(outputs, 0),
}


@dataclass(frozen=True)
class TextClassifier:
    """Embedded bytes through a recurrent layer, whose outputs are pooled, to a linear layer.

    cell: a key of CELLS. pooling: "average", "last" or "max" over the positions. dataset: labelled
    text. vocabulary: 2 to 256, as in LanguageModel. Weights start N(0, 1 / inputs), embeddings
    N(0, 1).
    """

    loss: ClassVar[str] = "cross_entropy"
    dataset: str = "reviews"
    cell: str = "vanilla"
    pooling: str = "average"
    vocabulary: int = 32
    embed: int = 8
    hidden: int = 16
    batch_size: int = 16
    name: str = "text_classifier"

    def __post_init__(self):
        check_name("cell", self.cell, CELLS)
        check_name("pooling", self.pooling, POOLINGS)
        check_dataset(self.dataset, "text")
        if info(self.dataset).classes < 2:
            raise ValueError(
                f"dataset: {self.dataset!r} is not allowed; it must have labels of two classes or "
                "more, as reviews has"
            )
        check_at_least(1, embed=self.embed, hidden=self.hidden, batch_size=self.batch_size)
        if not 2 <= self.vocabulary <= 256:
            raise ValueError(f"vocabulary: {self.vocabulary} is not allowed; it must be 2 to 256")

    @property
    def architecture(self) -> str:
        return f"{self.cell} text classifier"

    def load(self) -> Data:
        return frequent_bytes(self.dataset, self.vocabulary)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        del key
        return ()

    def task(self, cfg: Cfg, data: Data) -> Task:
        del cfg

        def init(key: PRNGKeyArray) -> Params:
            embed_key, layer_key, output_key = jax.random.split(key, 3)
            return {
                "embedding": jax.random.normal(embed_key, (self.vocabulary, self.embed)),
                "layer": recurrent_init(layer_key, self.cell, self.embed, self.hidden),
                "output": dense(output_key, self.hidden, info(self.dataset).classes),
            }

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            return minibatch(key, self.batch_size, data[split])

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            del key
            x = params["embedding"][batch["text"].T.astype(jnp.int32)]
            pooled = POOLINGS[self.pooling](recurrent_outputs(params["layer"], x, self.cell))
            return cross_entropy(affine(params["output"], pooled), batch["label"])

        return Task(init, batch, lambda split: first(WHOLE, data[split]), loss, 0.0)
