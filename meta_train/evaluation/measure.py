"""Measures settings of optimizers on tasks: what the cache lacks is compiled, run and kept."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.base import LearnedOptimizer
from meta_train.evaluation.curve_cache import CurveCache, Curves, cache_key, digest
from meta_train.evaluation.programs import Program, Setting, build_program, lanes
from meta_train.host import Interrupted
from meta_train.progress import Countdown
from tasks.base import Data, TaskFamily
from tasks.cost import cost

PROGRAMS = 32  # are compiled before their tasks are run; all of them are held in memory
OVERHEAD = 30_000  # what the loop around a step costs, in operations
SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True)
class Session:
    """What surrounds the measurements.

    cache: None measures everything. suite_version: part of what the cache goes by. say: takes
    now and then what is done and left. stopped: asked between runs.
    """

    cache: CurveCache | None = None
    suite_version: int = 1
    say: Callable[[str], None] = lambda line: None
    stopped: Callable[[], bool] = lambda: False

    def check(self) -> None:
        """Raises Interrupted once the work has been stopped."""
        if self.stopped():
            raise Interrupted


class _Batch(NamedTuple):
    """Settings that one program runs: the same rule, thetas of the same shapes."""

    optimizer: LearnedOptimizer
    numbers: list[int]  # of the settings


class _Todo(NamedTuple):
    """What the cache lacks on one task."""

    number: int  # of the task
    data: Data
    batches: list[_Batch]
    weight: int  # what a run costs, to foretell times

    @property
    def runs(self) -> int:
        """All seeds of a setting are one."""
        return sum(len(batch.numbers) for batch in self.batches)


def measure(
    families: Sequence[TaskFamily],
    settings: Sequence[Setting],
    seeds: Sequence[int],
    steps: int,
    points: int,
    session: Session,
) -> list[list[Curves]]:
    """The curves [task][setting], each of all seeds. Settings that are alike are run once.

    Raises MissingData before anything runs, and Interrupted; what was measured is in the cache.
    """
    unique, places = _unique(settings)
    keys = [
        [
            cache_key(family, session.suite_version, setting, seeds, steps, points)
            for setting in unique
        ]
        if session.cache
        else [None] * len(unique)
        for family in families
    ]
    found = [[_look(session.cache, key, len(seeds), points) for key in row] for row in keys]
    todo = _todo(families, unique, found)
    progress = Countdown(
        session.say,
        len(families),
        [(task.runs, task.weight) for task in todo],
        sum(len(task.batches) for task in todo),
    )
    for group in _groups(todo):
        programs = _compile(group, families, unique, seeds, steps, points, session, progress)
        for task, row in zip(group, programs, strict=True):
            for number, curves in _run_task(task, row, unique, seeds, steps, session, progress):
                found[task.number][number] = curves
                key = keys[task.number][number]
                if session.cache and key:
                    session.cache.store(key, curves)
            progress.finish(families[task.number].name)
    return [[row[place] for place in places] for row in found]  # type: ignore[misc]


def _unique(settings: Sequence[Setting]) -> tuple[list[Setting], list[int]]:
    """The settings without repetitions, and the place of each among them."""
    known: dict[Any, int] = {}
    unique, places = [], []
    for setting in settings:
        theta, rate = jax.tree.map(
            lambda leaf: np.asarray(leaf, jnp.result_type(leaf)),
            (setting.theta, setting.learning_rate),
        )
        setting = Setting(setting.optimizer, theta, rate)
        place = known.setdefault((setting.optimizer, digest((theta, rate))), len(unique))
        if place == len(unique):
            unique.append(setting)
        places.append(place)
    return unique, places


def _look(cache: CurveCache | None, key: str | None, seeds: int, points: int) -> Curves | None:
    return cache.load(key, seeds, points + 1) if cache and key else None


def _todo(
    families: Sequence[TaskFamily],
    settings: Sequence[Setting],
    found: Sequence[Sequence[Curves | None]],
) -> list[_Todo]:
    todo = []
    for number, (family, row) in enumerate(zip(families, found, strict=True)):
        missing = [place for place, curves in enumerate(row) if curves is None]
        if missing:
            data = jax.device_put(family.load())
            weight = cost(family).operations + OVERHEAD
            todo.append(_Todo(number, data, _batches(settings, missing), weight))
    return todo


def _batches(settings: Sequence[Setting], numbers: Sequence[int]) -> list[_Batch]:
    groups: dict[Any, list[int]] = {}
    for number in numbers:
        optimizer, *theta = settings[number]
        leaves, structure = jax.tree.flatten(theta)
        kind = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        groups.setdefault((optimizer, structure, kind), []).append(number)
    return [_Batch(optimizer, members) for (optimizer, *_), members in groups.items()]


def _groups(todo: Sequence[_Todo]) -> Iterator[list[_Todo]]:
    """Tasks whose programs are compiled together: at most PROGRAMS, at least one task."""
    group: list[_Todo] = []
    for task in todo:
        if group and sum(len(one.batches) for one in (*group, task)) > PROGRAMS:
            yield group
            group = []
        group.append(task)
    if group:
        yield group


def _compile(
    group: Sequence[_Todo],
    families: Sequence[TaskFamily],
    settings: Sequence[Setting],
    seeds: Sequence[int],
    steps: int,
    points: int,
    session: Session,
    progress: Countdown,
) -> list[list[Program]]:
    """The programs [task][batch], compiled side by side on all cores."""

    def compiled(task: _Todo, batch: _Batch) -> Program:
        program = build_program(
            families[task.number],
            batch.optimizer,
            steps,
            points,
            ("train", "test"),
            vmapped=lanes() > 1,
        )
        theta = _theta([settings[number] for number in batch.numbers[: lanes()]])
        return program.lower(task.data, theta, jnp.asarray(seeds)).compile()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = [[pool.submit(compiled, task, batch) for batch in task.batches] for task in group]
        try:
            _await([future for row in rows for future in row], session, progress)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        return [[future.result() for future in row] for row in rows]


def _await(futures: Sequence[Future], session: Session, progress: Countdown) -> None:
    """Until all are done; raises what the first failed one raised, and Interrupted."""
    waiting = set(futures)
    while waiting:
        session.check()
        done, waiting = wait(waiting, timeout=SECONDS_BETWEEN_LOOKS)
        for future in done:
            future.result()
        progress.compiled(len(done))


def _theta(settings: Sequence[Setting]) -> Any:
    """AsDeployed's theta of one setting, or of lanes() of them, the last one repeated."""
    thetas = [(setting.theta, setting.learning_rate) for setting in settings]
    if lanes() == 1:
        return thetas[0]
    thetas += thetas[-1:] * (lanes() - len(thetas))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *thetas)


def _run_task(
    task: _Todo,
    programs: Sequence[Program],
    settings: Sequence[Setting],
    seeds: Sequence[int],
    steps: int,
    session: Session,
    progress: Countdown,
) -> Iterator[tuple[int, Curves]]:
    """(number of the setting, its curves), one after the other."""
    for program, batch in zip(programs, task.batches, strict=True):
        for first in range(0, len(batch.numbers), lanes()):
            numbers = batch.numbers[first : first + lanes()]
            session.check()
            theta = _theta([settings[number] for number in numbers])
            began = time.perf_counter()
            curve = jax.device_get(program(task.data, theta, jnp.asarray(seeds)))
            took = time.perf_counter() - began
            seconds = np.asarray(took / steps / len(seeds) / lanes())
            if lanes() == 1:
                curve = jax.tree.map(lambda x: x[None], curve)
            for lane, number in enumerate(numbers):
                train, test = (losses[lane] for losses in curve.losses)
                yield number, Curves(train, test, curve.lower_bound[lane], seconds)
            progress.ran(len(numbers), len(numbers) * task.weight, took)
