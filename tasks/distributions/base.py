"""What a task distribution is: a seed and a number in, that many task families out."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from tasks.base import TaskFamily
from tasks.cost import Limit
from tasks.distributions.draws import Draws

_ATTEMPTS = 512


@runtime_checkable
class TaskDistribution(Protocol):
    """A named source of task families; what it gives depends on seed and n alone."""

    @property
    def name(self) -> str: ...

    def sample(
        self, seed: int, n: int, limit: Limit | None = None, first: int = 0
    ) -> tuple[TaskFamily, ...]:
        """`n` families of different names; fewer are the beginning of more.

        first: how many of the seed's tasks to pass over. Raises ValueError where the distribution
        has no `n` tasks within the limit.
        """
        ...


@dataclass(frozen=True)
class Listed:
    """A fixed list of families, handed out in an order that the seed decides."""

    name: str
    families: tuple[TaskFamily, ...]

    def sample(
        self, seed: int, n: int, limit: Limit | None = None, first: int = 0
    ) -> tuple[TaskFamily, ...]:
        """As TaskDistribution; after its last task the list begins again."""
        waiting, found = list(self.families), []
        draws = Draws(seed)
        while waiting and len(found) < first + n:
            family = waiting.pop(draws.integer(0, len(waiting) - 1))
            if limit is None or limit.admits(family):
                found.append(family)
        if len(found) < n:
            raise ValueError(
                f"count: {n} is not allowed; {self.name} has {len(found)} tasks within the limit"
            )
        return tuple(found[index % len(found)] for index in range(first, first + n))


@dataclass(frozen=True)
class Drawn:
    """Families drawn one by one: a kind by its weight, then its sizes.

    kinds: kind -> (weight, what draws its static fields). Task i of seed s is named
    "<name>_<s>_<i>_<kind>".
    """

    name: str
    kinds: tuple[tuple[str, float, Callable[[Draws], Any]], ...]

    def sample(
        self, seed: int, n: int, limit: Limit | None = None, first: int = 0
    ) -> tuple[TaskFamily, ...]:
        return tuple(self._one(seed, index, limit) for index in range(first, first + n))

    def _one(self, seed: int, index: int, limit: Limit | None) -> TaskFamily:
        for attempt in range(_ATTEMPTS):
            draws = Draws(seed, index, attempt)
            kind, _, draw = draws.choice(self.kinds, [weight for _, weight, _ in self.kinds])
            name = f"{self.name}_{seed}_{index}_{kind}"
            family = dataclasses.replace(draw(draws), name=name)
            if limit is None or limit.admits(family):
                return family
        raise ValueError(
            f"limit: {limit} is not allowed; none of {_ATTEMPTS} tasks drawn from {self.name} is "
            "within it"
        )
