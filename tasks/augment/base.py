"""What an augmentation is, and the families whose tasks carry some."""

import dataclasses
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PRNGKeyArray

from tasks.base import Cfg, Data, Task, TaskFamily
from tasks.distributions.draws import Draws

# Far from the small numbers that families count their own keys with.
_STREAM = 0x61756730


@runtime_checkable
class Augmentation(Protocol):
    """A frozen dataclass of bounds and of the probability, above 0 and at most 1, to be applied.

    per_family: whether it changes the program, so that it is applied to all tasks of a family or to
    none; `augment` decides. needs_lower_bound: whether the loss must have one.
    """

    per_family: ClassVar[bool]
    needs_lower_bound: ClassVar[bool]

    @property
    def probability(self) -> float: ...

    def sample(self, key: PRNGKeyArray) -> Cfg:
        """Draws what it does to one task: arrays only."""
        ...

    def wrap(self, task: Task, cfg: Cfg, on: Bool[Array, ""]) -> Task:
        """The augmented task; where `on` is False, its numbers are those of `task`, bit by bit."""
        ...


@dataclass(frozen=True)
class Augmented:
    """Tasks of `family` under augmentations, the first of which is the innermost.

    Each task draws which augmentations it is under, so that one vmapped batch holds all sorts; the
    cfg of the task inside is what the family would have drawn from the same key.
    """

    family: TaskFamily
    augmentations: tuple[Augmentation, ...]

    def __post_init__(self):
        for augmentation in self.augmentations:
            if augmentation.per_family and augmentation.probability < 1:
                raise ValueError(
                    f"probability: {augmentation.probability} is not allowed; "
                    f"{type(augmentation).__name__} is on for a whole family or off: use augment()"
                )

    @property
    def name(self) -> str:
        return self.family.name

    @property
    def architecture(self) -> str:
        return getattr(self.family, "architecture", type(self.family).__name__)

    @property
    def dataset(self) -> Any:
        return getattr(self.family, "dataset")  # noqa: B009

    @property
    def loss(self) -> Any:
        return getattr(self.family, "loss")  # noqa: B009

    def load(self) -> Data:
        return self.family.load()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        keys = jax.random.split(jax.random.fold_in(key, _STREAM), (len(self.augmentations), 2))
        drawn = tuple(
            (jax.random.bernoulli(on_key, augmentation.probability), augmentation.sample(cfg_key))
            for augmentation, (on_key, cfg_key) in zip(self.augmentations, keys, strict=True)
        )
        return self.family.sample(key), drawn

    def task(self, cfg: Cfg, data: Data) -> Task:
        """Raises ValueError where an augmentation needs a lower bound that the task lacks."""
        inner, drawn = cfg
        task = self.family.task(inner, data)
        for augmentation, (on, chosen) in zip(self.augmentations, drawn, strict=True):
            if augmentation.needs_lower_bound and task.lower_bound is None:
                raise ValueError(
                    f"augmentations: {type(augmentation).__name__} needs a lower bound of the "
                    f"loss, and task {self.name!r} declares none"
                )
            task = augmentation.wrap(task, chosen, on)
        return task


def augment(
    families: Sequence[TaskFamily], augmentations: Sequence[Augmentation], seed: int
) -> tuple[TaskFamily, ...]:
    """The families with tasks under the augmentations.

    seed: of the choices made for a whole family, which also depend on its name. Raises ValueError
    where an augmentation does not suit a family, and MissingData.
    """
    return tuple(_augmented(family, augmentations, seed) for family in families)


def _augmented(family: TaskFamily, augmentations: Sequence[Augmentation], seed: int) -> TaskFamily:
    chosen: list[Any] = []
    for index, augmentation in enumerate(augmentations):
        if not augmentation.per_family:
            chosen.append(augmentation)
        elif Draws(seed, index, zlib.crc32(family.name.encode())).chance(augmentation.probability):
            chosen.append(dataclasses.replace(augmentation, probability=1.0))  # pyright: ignore
    if not chosen:
        return family
    augmented = Augmented(family, tuple(chosen))
    if any(augmentation.needs_lower_bound for augmentation in chosen):
        data = augmented.load()

        def probe(key: PRNGKeyArray) -> Array:
            augmented.task(augmented.sample(key), data)
            return jnp.zeros(())

        jax.eval_shape(probe, jax.random.key(0))
    return augmented
