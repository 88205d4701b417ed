"""Residual dense networks on tables: a class for every row, or a number."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Split, Task
from tasks.builders import Arrays
from tasks.data import load
from tasks.families.layers import ACTIVATIONS, LOSSES, affine, dense, normalise, standardise
from tasks.families.regression import REGRESSION_LOSSES
from tasks.info import check_dataset, info
from tasks.names import check_at_least, check_name
from tasks.sampling import first, minibatch

WHOLE = 512  # rows that stand for a whole split


@functools.cache
def table(dataset: str) -> dict[str, Arrays]:
    """A table whose features and target have mean 0 and variance 1 on the train split."""
    parts = standardise(load(dataset))
    if info(dataset).classes:
        return parts
    target = parts["train"]["target"].astype(np.float64)
    return {
        split: {
            **part,
            "target": ((part["target"] - target.mean()) / target.std()).astype(np.float32),
        }
        for split, part in parts.items()
    }


@dataclass(frozen=True)
class ResidualMLP:
    """x + two dense layers of a normalised x, `depth` times, between two linear layers.

    dataset: a table: wine, breast_cancer (classes) or diabetes (a number). width: of x and of the
    layer within a block. loss: a key of LOSSES for classes, of REGRESSION_LOSSES for numbers,
    which are standardised.
    """

    dataset: str = "wine"
    width: int = 16
    depth: int = 2
    activation: str = "mish"
    loss: str = "cross_entropy"
    batch_size: int = 32
    name: str = "residual_mlp"

    def __post_init__(self):
        check_dataset(self.dataset, "table")
        check_name("activation", self.activation, ACTIVATIONS)
        check_name("loss", self.loss, LOSSES if info(self.dataset).classes else REGRESSION_LOSSES)
        check_at_least(1, width=self.width, depth=self.depth, batch_size=self.batch_size)

    def load(self) -> Data:
        return table(self.dataset)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        del key
        return ()

    def task(self, cfg: Cfg, data: Data) -> Task:
        del cfg

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            return minibatch(key, self.batch_size, data[split])

        return Task(
            self._init,
            batch,
            lambda split: first(WHOLE, data[split]),
            self._loss,
            lower_bound=0.0,
        )

    def _init(self, key: PRNGKeyArray) -> Params:
        about = info(self.dataset)
        keys = jax.random.split(key, 2 * self.depth + 2)
        params = {
            "inward": dense(keys[0], about.shape[0], self.width),
            "outward": dense(keys[1], self.width, about.classes or 1),
        }
        for i in range(self.depth):
            params[f"block{i}"] = {
                "gain": jnp.ones(self.width),
                "first": dense(keys[2 * i + 2], self.width, self.width),
                "second": dense(keys[2 * i + 3], self.width, self.width),
            }
        return params

    def output(
        self, params: Params, features: Float[Array, "n inputs"]
    ) -> Float[Array, "n outputs"]:
        x = affine(params["inward"], features)
        for i in range(self.depth):
            block = params[f"block{i}"]
            inner = affine(block["first"], normalise(x) * block["gain"])
            x = x + affine(block["second"], ACTIVATIONS[self.activation](inner))
        return affine(params["outward"], normalise(x))

    def _loss(self, params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
        del key
        output = self.output(params, batch["features"])
        if info(self.dataset).classes:
            return LOSSES[self.loss](output, batch["label"])
        return REGRESSION_LOSSES[self.loss](output[:, 0], batch["target"])
