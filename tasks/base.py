"""What a task is: a way to start, a stream of batches and a loss, all pure functions."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import optax
from jaxtyping import Array, Float, PRNGKeyArray

Params = Any  # pytree of arrays
Batch = Any  # pytree of arrays, possibly without leaves
Cfg = Any  # pytree of arrays: what distinguishes one sampled task of a family from another
Data = Any  # pytree of arrays: what a family needs from disk, () for synthetic ones
Split = Literal["train", "inner_valid", "outer_valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "inner_valid", "outer_valid", "test")


class Task(NamedTuple):
    """One optimisation problem.

    init(key) gives the starting parameters. batch(key, split) draws a minibatch on the device.
    whole(split) is the whole split as one batch (a fixed sample of it where that is large).
    loss(params, key, batch) is a scalar. lower_bound is what the loss never goes below: a number, a
    scalar that follows from the task's cfg, or None where none is known. gradient is an optax
    transformation that distorts the gradients before the optimizer sees them (noise, sparsity,
    delay).
    """

    init: Callable[[PRNGKeyArray], Params]
    batch: Callable[[PRNGKeyArray, Split], Batch]
    whole: Callable[[Split], Batch]
    loss: Callable[[Params, PRNGKeyArray, Batch], Float[Array, ""]]
    lower_bound: float | Float[Array, ""] | None
    gradient: optax.GradientTransformation = optax.identity()


@runtime_checkable
class TaskFamily(Protocol):
    """Tasks of one shape: a frozen dataclass of static sizes; one program, vmapped over cfg."""

    @property
    def name(self) -> str:
        """Unique within a distribution: letters, digits, '_' and '-'; a config refuses others."""
        ...

    def load(self) -> Data:
        """Reads, on the host and once, the arrays the tasks need. Raises MissingData."""
        ...

    def sample(self, key: PRNGKeyArray) -> Cfg:
        """Draws what distinguishes one task from the next: arrays only."""
        ...

    def task(self, cfg: Cfg, data: Data) -> Task:
        """The task that `cfg` describes; `data` is what `load` returned, on the device."""
        ...


class TaskMix(NamedTuple):
    """The families a run trains on and how much each weighs in the meta-gradient."""

    families: tuple[TaskFamily, ...]
    weights: tuple[float, ...]


class MissingData(Exception):
    """A dataset is not on this machine; the message says where it was sought and how to get it."""
