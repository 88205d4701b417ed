"""A panel of drawn tasks that judges rules: many kinds, each a small share, small enough to run."""

from collections import Counter
from collections.abc import Iterator

from tasks.base import TaskFamily
from tasks.cost import Limit
from tasks.distributions.base import TaskDistribution
from tasks.distributions.lhopt import LHOPT
from tasks.distributions.taskset import TASKSET
from tasks.distributions.velo import VELO

SOURCES: tuple[TaskDistribution, ...] = (TASKSET, VELO, LHOPT)
DRAWS = 2000  # of one source for one task, before it has none


def panel(seed: int, count: int, limit: Limit, most: int) -> tuple[TaskFamily, ...]:
    """`count` families drawn from taskset, velo and lhopt in turn; fewer are the beginning of more.

    limit: what a task may cost; others are passed over. most: families of one class. Raises
    ValueError where a distribution has no further task of that kind.
    """
    streams = [_stream(source, seed) for source in SOURCES]
    found: list[TaskFamily] = []
    taken: Counter[type] = Counter()
    for index in range(count):
        family = _next(streams[index % len(streams)], taken, limit, most)
        taken[type(family)] += 1
        found.append(family)
    return tuple(found)


def _stream(source: TaskDistribution, seed: int) -> Iterator[TaskFamily]:
    for index in range(DRAWS):
        yield source.sample(seed, 1, first=index)[0]


def _next(
    stream: Iterator[TaskFamily], taken: Counter[type], limit: Limit, most: int
) -> TaskFamily:
    for family in stream:
        if taken[type(family)] < most and limit.admits(family):
            return family
    raise ValueError(
        f"count: no further task within {limit} among {DRAWS} draws, with {most} of a kind at most"
    )
