"""What changes the data a task sees."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PRNGKeyArray

from tasks.base import Batch, Cfg, Split, Task
from tasks.names import check_fractions, check_probability


@dataclass(frozen=True)
class ReducedBatch:
    """Training minibatches of fewer examples: the first k of each, repeated until it is full.

    fraction: bounds of k / size, uniform; k is at least 1. The examples are the leading axis of a
    batch; tasks without data are left as they are.
    """

    per_family: ClassVar[bool] = False
    needs_lower_bound: ClassVar[bool] = False
    probability: float = 1.0
    fraction: tuple[float, float] = (0.01, 1.0)

    def __post_init__(self):
        check_probability(self.probability)
        check_fractions("fraction", self.fraction)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        low, high = self.fraction
        return jax.random.uniform(key, minval=low, maxval=high)

    def wrap(self, task: Task, cfg: Cfg, on: Bool[Array, ""]) -> Task:
        def reduced(values: Array) -> Array:
            size = len(values)
            kept = jnp.clip(jnp.round(cfg * size).astype(jnp.int32), 1, size)
            return values[jnp.arange(size) % jnp.where(on, kept, size)]

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            drawn = task.batch(key, split)
            return jax.tree.map(reduced, drawn) if split == "train" else drawn

        return task._replace(batch=batch)
