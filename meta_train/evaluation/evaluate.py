"""Runs optimizers over a suite of tasks, all from the same starts, on the same data."""

import dataclasses
import functools
import itertools
import os
import platform
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.hand.spec import EXTRAS, HandDesigned
from learned_opt.naming import check_name
from meta_train.evaluation import stats
from meta_train.evaluation.curve_cache import Curves, package_versions
from meta_train.evaluation.entries import Entry, form_of, standard_baselines
from meta_train.evaluation.measure import Session, measure
from meta_train.evaluation.programs import build_ends
from meta_train.evaluation.results import Grid, Report, ResultsError
from meta_train.inner.horizons import Fixed
from tasks.base import Data, Split, TaskFamily

__all__ = [
    "Entry",
    "Report",
    "ResultsError",
    "Session",
    "check",
    "choose_suite",
    "evaluate",
    "selection_score",
    "standard_baselines",
    "versions",
]

DEFAULT_POINTS = 50
DEFAULT_STEPS = 1000  # where families are given instead of a suite
SELECTION_STEPS = (200, 2000)  # a short and a long run
SELECTION_SPLITS: tuple[Split, ...] = ("train", "outer_valid")
GIVEN = ("params", "value")  # what an update is given beside the gradients


def _points(steps: int, points: int) -> int:
    """The largest divisor of `steps` that is at most `points`."""
    if steps < 1:
        raise ValueError(f"steps: {steps} is not allowed; it must be at least 1")
    if points < 1:
        raise ValueError(f"points: {points} is not allowed; it must be at least 1")
    most = min(points, steps)
    found = next(n for n in range(most, 0, -1) if steps % n == 0)
    if 4 * found < most:
        near = max(round(steps / most), 1) * most
        raise ValueError(f"steps: {steps} does not divide into about {most} parts; take {near}")
    return found


class Chosen(NamedTuple):
    """A suite, or families given in place of one."""

    name: str
    fingerprint: str
    families: tuple[TaskFamily, ...]
    steps: int
    version: int = 1


def choose_suite(suite: str | Iterable[TaskFamily]) -> Chosen:
    """By name, or of families. Raises ValueError."""
    if not isinstance(suite, str):
        return Chosen("custom", "", tuple(suite), DEFAULT_STEPS)
    from tasks.suites import SUITES, fingerprint

    check_name("suite", suite, SUITES)
    return Chosen(suite, fingerprint(suite), *SUITES[suite])


def versions() -> dict[str, str]:
    """Of what a result depends on, for the record."""
    device = jax.devices()[0]
    return package_versions() | {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "device": f"{device.platform} ({device.device_kind})",
    }


def check(
    entries: Sequence[Entry],
    seeds: int | Sequence[int],
    steps: int,
    points: int = DEFAULT_POINTS,
) -> int:
    """Raises ValueError for what `evaluate` refuses, at no cost; gives how many points it takes."""
    names = [entry.name for entry in entries]
    if not names:
        raise ValueError("entries: there is nothing to evaluate")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"entries: the name {name!r} is given twice; names must differ")
    for entry in entries:
        check_needs(entry.optimizer)
    if not seeds:
        raise ValueError("seeds: at least one is needed")
    Fixed(steps)
    return _points(steps, points)


def check_needs(optimizer: LearnedOptimizer) -> None:
    """Raises ValueError for a rule whose update must be given more than evaluations give."""
    if not isinstance(optimizer, HandDesigned):
        return
    for name in optimizer.needs:
        if name not in GIVEN:
            raise ValueError(
                f"{name}: {optimizer.name} needs {EXTRAS[name]}; evaluations give "
                f"{' and '.join(GIVEN)}"
            )


def final_loss(curves: Curves) -> float:
    """Mean final training loss over the seeds; infinite where any seed diverged."""
    train = np.asarray(curves.train, np.float64)
    diverged = stats.find_diverged(train, np.asarray(curves.lower_bound, np.float64))
    return float(np.where(diverged, np.inf, train[:, -1]).mean())


class _Tuned(NamedTuple):
    """An entry on one task."""

    trials: list[Curves]
    finals: list[float]  # of each trial, infinite where it diverged

    @property
    def chosen(self) -> int:
        """Number of the trial with the least final training loss."""
        return int(np.argmin(self.finals))

    @property
    def best(self) -> Curves:
        return self.trials[self.chosen]

    @property
    def seconds(self) -> list[float]:
        """Of each trial, per step."""
        return [float(one.seconds) for one in self.trials]


def _tune(curves: Iterable[Curves]) -> _Tuned:
    trials = list(curves)
    return _Tuned(trials, [final_loss(one) for one in trials])


def _tried(row: Sequence[_Tuned], split: str) -> np.ndarray:
    """The curves of all trials of an entry: [trial, task, seed, point]."""
    losses = [[getattr(curves, split) for curves in one.trials] for one in row]
    return np.asarray(losses, np.float64).swapaxes(0, 1)


def evaluate(
    entries: Sequence[Entry],
    suite: str | Iterable[TaskFamily],
    seeds: int | Sequence[int] = 3,
    steps: int | None = None,
    points: int = DEFAULT_POINTS,
    session: Session | None = None,
) -> Report:
    """Trains every task of `suite` with every entry, once for each seed, and measures the curves.

    suite: name of one, or families. seeds: how many, or which. steps: updates of each run, which
    learned rules are given; None for as many as the suite says, 1,000 for families. points:
    measurements after the start, rounded down to a divisor of steps. session: a cache, and what
    takes the progress. Raises MissingData before anything runs, and Interrupted.
    """
    chosen = choose_suite(suite)
    steps = chosen.steps if steps is None else steps
    points = check(entries, seeds, steps, points)
    seeds = tuple(range(seeds) if isinstance(seeds, int) else seeds)
    settings = [setting for entry in entries for setting in entry.settings]
    session = dataclasses.replace(session or Session(), suite_version=chosen.version)
    measured = [
        iter(row) for row in measure(chosen.families, settings, seeds, steps, points, session)
    ]
    tuned = [
        [_tune(itertools.islice(row, len(entry.settings))) for row in measured] for entry in entries
    ]
    searched = {e.name: (e, row) for e, row in zip(entries, tuned, strict=True) if e.trials}
    train, test = (
        np.asarray([[getattr(one.best, split) for one in row] for row in tuned], np.float64)
        for split in ("train", "test")
    )
    bound = np.asarray([one.best.lower_bound for one in tuned[0]], np.float64)
    return Report(
        suite=chosen.name,
        fingerprint=chosen.fingerprint,
        optimizers=tuple(entry.name for entry in entries),
        tasks=tuple(family.name for family in chosen.families),
        seeds=seeds,
        eval_steps=tuple(range(0, steps + 1, steps // points)),
        train_loss=train,
        test_loss=test,
        lower_bound=bound,
        diverged=stats.find_diverged(train, np.broadcast_to(bound, train.shape[:-1])),
        seconds_per_step=np.asarray([[np.median(one.seconds) for one in row] for row in tuned]),
        grids={name: _grid(entry, row) for name, (entry, row) in searched.items()},
        settings={"steps": steps, "points": points},
        versions=versions(),
        trial_loss={name: _tried(row, "train") for name, (_, row) in searched.items()},
        trial_test_loss={name: _tried(row, "test") for name, (_, row) in searched.items()},
        forms={entry.name: form_of(entry.optimizer) for entry in entries},
    )


def _grid(entry: Entry, row: Sequence[_Tuned]) -> Grid:
    return Grid(
        trials=entry.trials,
        chosen=tuple(one.chosen for one in row),
        final_loss=tuple(
            tuple(final if np.isfinite(final) else None for final in one.finals) for one in row
        ),
        seconds=tuple(tuple(one.seconds) for one in row),
    )


@functools.lru_cache(maxsize=4)
def _selection_programs(
    optimizer: LearnedOptimizer, families: tuple[TaskFamily, ...], lengths: tuple[int, ...]
) -> list[tuple[Any, Data]]:
    return [
        (
            build_ends(family, optimizer, lengths, SELECTION_SPLITS),
            jax.device_put(family.load()),
        )
        for family in families
    ]


def selection_score(
    optimizer: LearnedOptimizer,
    theta: Theta,
    suite: str | Iterable[TaskFamily],
    seeds: int | Sequence[int] = 2,
    steps: int | Sequence[int] = SELECTION_STEPS,
) -> float:
    """How well `theta` does on a suite, lower is better: the mean of stats.log_progress.

    The mean is over tasks, seeds, lengths of the run, and the whole of two splits, train and
    outer_valid. steps: one length, or several; a rule is given each. Compiled once for each
    (optimizer, suite, steps) and kept: further calls take other thetas.
    """
    seeds = tuple(range(seeds) if isinstance(seeds, int) else seeds)
    lengths = (steps,) if isinstance(steps, int) else tuple(steps)
    families = choose_suite(suite).families
    weights = (jax.device_get(theta), None)

    def progress(program, data, steps: int) -> np.ndarray:
        curve = jax.device_get(program(data, weights, jnp.asarray(seeds), steps))
        losses = np.asarray(curve.losses, np.float64)  # [split, seed, point]
        bound = np.broadcast_to(curve.lower_bound, losses.shape[:-1])
        return stats.log_progress(losses[..., 0], losses[..., -1], bound)

    def of_task(pair: tuple[Any, Data]) -> list[np.ndarray]:
        program, data = pair
        return [progress(program, data, steps) for steps in lengths]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(of_task, _selection_programs(optimizer, families, lengths))
        return float(np.mean(list(found)))
