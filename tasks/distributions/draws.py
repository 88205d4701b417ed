"""The random choices a static configuration is drawn with: the same on every machine."""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


class Draws:
    """An endless stream of choices, fixed by its seeds.

    Built on the raw output of PCG64 and of NumPy's seeding, whose streams NumPy promises to keep;
    it makes no such promise for the distributions of its Generator.
    """

    def __init__(self, *seeds: int):
        self._raw = np.random.PCG64(np.random.SeedSequence(seeds))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * (int(self._raw.random_raw()) >> 11) * 2.0**-53

    def log_uniform(self, low: float, high: float) -> float:
        """A number whose logarithm is uniform between those of the bounds."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def log_int(self, low: int, high: int) -> int:
        """`log_uniform`, rounded to an integer."""
        return round(self.log_uniform(low, high))

    def integer(self, low: int, high: int) -> int:
        """Each of low .. high with the same probability."""
        return low + int(self._raw.random_raw()) % (high - low + 1)

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def choice(self, items: Sequence[Item], weights: Sequence[float] | None = None) -> Item:
        """One of the items, with probabilities proportional to the weights (equal without)."""
        if weights is None:
            return items[self.integer(0, len(items) - 1)]
        point = self.uniform(0.0, sum(weights))
        for item, weight in zip(items, weights, strict=True):
            point -= weight
            if point < 0:
                return item
        return items[-1]
