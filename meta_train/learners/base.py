"""The interface of learners to the training loop, and how the tasks get their data."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from learned_opt.base import LearnedOptimizer, Theta
from meta_train.estimators.base import Metrics
from meta_train.parallel import Parallel
from tasks.base import Data, TaskFamily


@runtime_checkable
class LearnerState(Protocol):
    """What every learner's state has: a tree of arrays that a checkpoint holds whole."""

    @property
    def step(self) -> Int[Array, ""]: ...

    @property
    def theta_average(self) -> Theta: ...

    @property
    def meta_opt_state(self) -> Any: ...


State = TypeVar("State", bound=LearnerState)


@runtime_checkable
class MetaLearner(Protocol[State]):
    """What the training loop runs; `inner_steps` are the inner training steps of one meta-step."""

    @property
    def optimizer(self) -> LearnedOptimizer: ...

    @property
    def inner_steps(self) -> int: ...

    def load(self) -> tuple[Data, ...]: ...

    def init(
        self, key: PRNGKeyArray, data: tuple[Data, ...], theta: Theta | None = None
    ) -> State: ...

    def take_over(self, state: State, data: tuple[Data, ...]) -> State: ...

    def prepare(self, data: tuple[Data, ...]) -> None: ...

    def step(self, state: State, data: tuple[Data, ...]) -> tuple[State, Metrics]: ...

    def place(self, state: State) -> State: ...

    def theta(self, state: State) -> Theta: ...


def load_families(families: Sequence[TaskFamily], parallel: Parallel) -> tuple[Data, ...]:
    """Every family's arrays, on every device; what families share lies there once.

    Raises MissingData.
    """
    data = tuple(family.load() for family in families)
    arrays = {id(leaf): leaf for leaf in jax.tree.leaves(data)}
    placed = parallel.replicate({name: jnp.asarray(x) for name, x in arrays.items()})
    return jax.tree.map(lambda leaf: placed[id(leaf)], data)
