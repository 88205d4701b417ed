"""A block of a config that stands for several tasks, drawn from a named distribution."""

from dataclasses import dataclass

from tasks.base import TaskFamily
from tasks.cost import Limit
from tasks.distributions import DISTRIBUTIONS
from tasks.names import check_at_least, check_name


@dataclass(frozen=True)
class Sampled:
    """`count` families drawn from a named distribution, which share the weight equally.

    distribution: literature_paper, literature_code, taskset, velo or lhopt. seed: of the draw;
    the same seed gives the same families on every machine, and a larger count adds to them.
    first: how many of them to pass over.
    """

    distribution: str = "taskset"
    seed: int = 0
    count: int = 8
    first: int = 0

    def __post_init__(self):
        check_name("distribution", self.distribution, DISTRIBUTIONS)
        check_at_least(0, seed=self.seed, first=self.first)
        check_at_least(1, count=self.count)

    def families(self, limit: Limit | None = None) -> tuple[TaskFamily, ...]:
        source = DISTRIBUTIONS[self.distribution]
        return source.sample(self.seed, self.count, limit, self.first)
