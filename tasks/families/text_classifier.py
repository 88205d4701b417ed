"""Recurrent classifiers of short texts."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Split, Task
from tasks.families import dynamics
from tasks.families.cells import CELLS, recurrent_init, recurrent_outputs
from tasks.families.layers import affine, cross_entropy, dense
from tasks.families.tokens import check_vocabulary, labelled_bytes, labelled_words
from tasks.info import check_classes, check_dataset, info
from tasks.names import check_at_least, check_name

POOLINGS = ("average", "last", "max")
WHOLE = 256  # examples that stand for a whole split


def pooled(
    outputs: Float[Array, "length batch hidden"], length: Int[Array, " batch"], pooling: str
) -> Float[Array, "batch hidden"]:
    """One row for every text from the outputs at its first `length` symbols, 1 or more."""
    if pooling == "last":
        return outputs[length - 1, jnp.arange(outputs.shape[1])]
    read = (jnp.arange(outputs.shape[0])[:, None] < length)[..., None]
    if pooling == "max":
        return jnp.max(jnp.where(read, outputs, -jnp.inf), 0)
    return jnp.sum(jnp.where(read, outputs, 0), 0) / length[:, None]


@dataclass(frozen=True)
class TextClassifier:
    """The class of a text by a recurrent network that reads it and a linear layer.

    symbols: words or bytes. vocabulary: their number, at least 2, at most 256 bytes or 65,536
    words: the most frequent ones and one for all others. cell: a key of CELLS. pooling: what the
    linear layer sees of the outputs: the last, their average or their maximum.

    Bounds of what differs between tasks: initial_scale, a factor on the starting weights
    (log-uniform); label_noise, the share of training examples with a random label; subset, the
    share of the training examples there is (both uniform).
    """

    loss: ClassVar[str] = "cross_entropy"
    dataset: str = "reviews"
    symbols: str = "words"
    vocabulary: int = 100
    cell: str = "gru"
    pooling: str = "last"
    embed: int = 8
    hidden: int = 16
    batch_size: int = 16
    initial_scale: tuple[float, float] = (1.0, 1.0)
    label_noise: tuple[float, float] = (0.0, 0.0)
    subset: tuple[float, float] = (1.0, 1.0)
    name: str = "text_classifier"

    def __post_init__(self):
        check_dataset(self.dataset, "text")
        check_classes(self.dataset)
        check_name("symbols", self.symbols, ("bytes", "words"))
        check_vocabulary(self.vocabulary, 256 if self.symbols == "bytes" else 2**16)
        check_name("cell", self.cell, CELLS)
        check_name("pooling", self.pooling, POOLINGS)
        check_at_least(1, embed=self.embed, hidden=self.hidden, batch_size=self.batch_size)
        dynamics.check_bounds(self.initial_scale, self.label_noise, self.subset)

    @property
    def architecture(self) -> str:
        return f"{self.cell} text classifier"

    def load(self) -> Data:
        labelled = labelled_bytes if self.symbols == "bytes" else labelled_words
        return labelled(self.dataset, self.vocabulary)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return dynamics.draw(key, self.initial_scale, self.label_noise, self.subset)

    def task(self, cfg: Cfg, data: Data) -> Task:
        classes = info(self.dataset).classes

        def init(key: PRNGKeyArray) -> Params:
            embed_key, input_key, recurrent_key, output_key = jax.random.split(key, 4)
            keys = (input_key, recurrent_key)
            embedding = jax.random.normal(embed_key, (self.vocabulary, self.embed))
            return {
                "embedding": cfg.scale * embedding,
                **recurrent_init(keys, self.cell, self.embed, self.hidden, cfg.scale),
                "output": dense(output_key, self.hidden, classes, cfg.scale),
            }

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            return dynamics.minibatch(key, self.batch_size, data, split, cfg, classes)

        def whole(split: Split) -> Batch:
            return dynamics.whole(WHOLE, data, split, cfg, classes)

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            del key
            x = params["embedding"][batch["text"].T]
            outputs = recurrent_outputs(params, x, self.cell)
            logits = affine(params["output"], pooled(outputs, batch["length"], self.pooling))
            return cross_entropy(logits, batch["label"])

        return Task(init, batch, whole, loss, lower_bound=0.0)
