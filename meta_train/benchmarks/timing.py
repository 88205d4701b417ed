"""How fast things run: medians of repetitions that take turns, with compilation apart."""

import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np


def medians(
    runs: Mapping[str, Callable[[], Any]], seconds: float = 0.0, repetitions: int = 1
) -> tuple[dict[str, float], int]:
    """Median seconds of every run and how often each was made.

    They take turns, since a shared machine changes its pace, until both `seconds` have passed and
    `repetitions` are made.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    began, made = time.perf_counter(), 0
    while made < repetitions or time.perf_counter() - began < seconds:
        for name, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            times[name].append(time.perf_counter() - start)
        made += 1
    return {name: float(np.median(taken)) for name, taken in times.items()}, made


def peak_memory() -> float:
    """The most memory this process held, in MiB."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held / (2**20 if sys.platform == "darwin" else 2**10)
