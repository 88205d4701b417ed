"""What families draw: minibatches on the device, and the numbers that distinguish tasks."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks.base import Data


def indices(key: PRNGKeyArray, size: int, count: int) -> Int[Array, " size"]:
    """`size` integers in 0 .. count - 1, drawn with replacement."""
    return (jax.random.bits(key, (size,)) % jnp.uint32(count)).astype(jnp.int32)


def minibatch(key: PRNGKeyArray, size: int, examples: Data) -> Data:
    """`size` examples drawn with replacement: one gather for each array."""
    count = len(jax.tree.leaves(examples)[0])
    index = indices(key, size, count)
    return jax.tree.map(lambda values: values[index], examples)


def first(limit: int, examples: Data) -> Data:
    """The first `limit` examples (all, where there are fewer)."""
    return jax.tree.map(lambda values: values[:limit], examples)


def uniform(key: PRNGKeyArray, bounds: tuple[float, float]) -> Float[Array, ""]:
    """A number, uniform between the bounds."""
    low, high = bounds
    return low + (high - low) * jax.random.uniform(key)


def log_uniform(
    key: PRNGKeyArray, bounds: tuple[float, float], shape: tuple[int, ...] = ()
) -> Float[Array, "*shape"]:
    """Numbers whose logarithms are uniform between those of the bounds."""
    low, high = bounds
    return low * (high / low) ** jax.random.uniform(key, shape)


def task_key(key: PRNGKeyArray, seed: int | None) -> PRNGKeyArray:
    """The key a task is drawn with: `key`, or a fixed one where the family has a seed."""
    return key if seed is None else jax.random.key(seed)
