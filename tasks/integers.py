"""Random integers that are the same on every machine and under every Python version."""

from collections.abc import Iterator

_MULTIPLIER = 6364136223846793005  # of Knuth's MMIX generator
_INCREMENT = 1442695040888963407


def draws(seed: int) -> Iterator[int]:
    """An endless stream of integers in 0 .. 2**31 - 1: the high bits of a 64-bit congruence."""
    state = seed
    while True:
        state = (state * _MULTIPLIER + _INCREMENT) % 2**64
        yield state >> 33


def permutation(count: int, seed: int) -> list[int]:
    """The numbers 0 .. count - 1 in a random order fixed by `seed` (Fisher and Yates)."""
    stream = draws(seed)
    order = list(range(count))
    for last in range(count - 1, 0, -1):
        other = next(stream) % (last + 1)
        order[last], order[other] = order[other], order[last]
    return order
