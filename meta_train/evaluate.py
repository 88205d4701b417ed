"""Runs optimizers over a suite of tasks, all from the same starts, on the same data."""

import functools
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.base import Horizon, LearnedOptimizer, Theta, eval_params
from learned_opt.hand.spec import HandDesigned
from learned_opt.naming import check_name
from learned_opt.registry import HAND_DESIGNED
from meta_train import stats
from meta_train.forms import form_of
from meta_train.horizons import Fixed
from meta_train.results import Grid, Report, ResultsError
from meta_train.unroll import Episodes, start, unroll
from tasks.base import Data, Split, TaskFamily

__all__ = [
    "Entry",
    "Report",
    "ResultsError",
    "check",
    "evaluate",
    "selection_score",
    "standard_baselines",
]

HALF_DECADES = tuple(float(f"{10 ** (-4 + k / 2):.3g}") for k in range(7))
DEFAULT_POINTS = 50
DEFAULT_STEPS = 1000  # where families are given instead of a suite
TUNED = ("adam", "rmsprop", "sgd")


class Entry(NamedTuple):
    """One line of a report: an optimizer with its weights.

    learning_rates: not empty makes it a grid; each task gets the rate with the least mean final
    training loss over the seeds.
    """

    name: str
    optimizer: LearnedOptimizer
    theta: Theta
    learning_rates: tuple[float, ...] = ()


def standard_baselines(names: Sequence[str] | None = None) -> list[Entry]:
    """Hand-designed entries by name, all of them by default.

    adam, rmsprop and sgd (momentum 0.9) are tuned per task over the seven half decades from 1e-4 to
    1e-1; adam_1e-3 and relative_adam are run as they are.
    """
    key = jax.random.key(0)
    entries = {
        name: Entry(f"{name} (tuned)", rule := HAND_DESIGNED[name], rule.init(key), HALF_DECADES)
        for name in TUNED
    }
    for name, rule in (("adam_1e-3", "adam"), ("relative_adam", "relative_adam")):
        entries[name] = Entry(name, HAND_DESIGNED[rule], HAND_DESIGNED[rule].init(key))
    for name in names or ():
        check_name("baselines", name, entries)
    return [entries[name] for name in (entries if names is None else names)]


@dataclass(frozen=True)
class AsDeployed:
    """A rule as its user runs it: nothing random at its start; theta is (weights, rate or None)."""

    optimizer: LearnedOptimizer

    def init(self, key: PRNGKeyArray) -> Theta:
        return (self.optimizer.init(key), None)

    def opt(
        self,
        theta: Theta,
        horizon: Horizon,
        key: PRNGKeyArray | None = None,
        learning_rate: float | Array | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        del key, learning_rate
        weights, rate = theta
        return self.optimizer.opt(weights, horizon, learning_rate=rate)


class Curve(NamedTuple):
    """One run as it is measured."""

    losses: tuple[Float[Array, " point"], ...]  # one for each split
    lower_bound: Float[Array, ""]  # NaN where the task declares none


def _program(
    family: TaskFamily,
    optimizer: LearnedOptimizer,
    steps: int,
    points: int,
    splits: Sequence[Split],
) -> Any:
    """A jitted (data, thetas, seeds) -> Curve of every theta and seed: [variant, seed, ...].

    Every run of `steps` updates is measured on the whole of `splits` at its start and `points`
    times more. Keys come from the seed alone, so all optimizers meet the same tasks, starts and
    minibatches.
    """
    episodes = Episodes(family, AsDeployed(optimizer), Fixed(steps))

    def run(data: Data, theta: Theta, seed: Array) -> Curve:
        start_key, noise_key, steps_key = jax.random.split(jax.random.key(seed), 3)
        inner = start(episodes, data, theta, start_key, 0)
        task = family.task(inner.cfg, data)

        def advance(inner, chunk):
            key, is_first = chunk
            inner = jax.lax.cond(
                is_first,
                lambda inner: inner,
                lambda inner: unroll(episodes, data, theta, inner, key, 0, steps // points)[0],
                inner,
            )
            point = eval_params(inner.opt_state, inner.params)
            return inner, tuple(task.loss(point, noise_key, task.whole(s)) for s in splits)

        keys = jax.random.split(steps_key, points + 1)
        _, losses = jax.lax.scan(advance, inner, (keys, jnp.arange(points + 1) == 0))
        bound = jnp.nan if task.lower_bound is None else task.lower_bound
        return Curve(losses, jnp.asarray(bound, jnp.float32))

    def variants(data: Data, thetas: Theta, seeds: Array) -> Curve:
        # One after the other: a step then costs the same in a grid of rates as alone.
        over_seeds = jax.vmap(run, in_axes=(None, None, 0))
        return jax.lax.map(lambda theta: over_seeds(data, theta, seeds), thetas)

    return jax.jit(variants, compiler_options=_compiler_options())


def _compiler_options() -> dict[str, Any]:
    """On a CPU, light optimization: most evaluations take longer to compile than to run."""
    level = "xla_backend_optimization_level"
    if jax.default_backend() != "cpu" or level in os.environ.get("XLA_FLAGS", ""):
        return {}
    return {level: 1}


def _variants(entry: Entry) -> list[Theta]:
    """The thetas of AsDeployed that `entry` needs: one, or one for each rate of its grid."""
    if not entry.learning_rates:
        return [(entry.theta, None)]
    if isinstance(entry.optimizer, HandDesigned):
        # As theta, so that the grid shares one program with the untuned entry of the same rule.
        return [({"log_learning_rate": np.log(np.float32(r))}, None) for r in entry.learning_rates]
    return [(entry.theta, np.float32(rate)) for rate in entry.learning_rates]


class Batch(NamedTuple):
    """Entries that one program runs together: the same rule, thetas of the same shapes."""

    optimizer: LearnedOptimizer
    thetas: Theta  # leading axis: variants
    members: dict[int, slice]  # number of the entry -> its variants


def _batches(entries: Sequence[Entry]) -> list[Batch]:
    groups: dict[Any, list[tuple[int, Theta]]] = {}
    for number, entry in enumerate(entries):
        for theta in _variants(entry):
            leaves, structure = jax.tree.flatten(theta)
            kind = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
            groups.setdefault((entry.optimizer, structure, kind), []).append((number, theta))
    batches = []
    for (optimizer, *_), variants in groups.items():
        numbers = [number for number, _ in variants]
        members = {n: slice(numbers.index(n), numbers.index(n) + numbers.count(n)) for n in numbers}
        thetas = jax.tree.map(lambda *leaves: np.stack(leaves), *(theta for _, theta in variants))
        batches.append(Batch(optimizer, thetas, members))
    return batches


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


class _Chosen(NamedTuple):
    name: str
    fingerprint: str
    families: tuple[TaskFamily, ...]
    steps: int


def _suite(suite: str | Iterable[TaskFamily]) -> _Chosen:
    if not isinstance(suite, str):
        return _Chosen("custom", "", tuple(suite), DEFAULT_STEPS)
    from tasks.suites import SUITES, fingerprint

    check_name("suite", suite, SUITES)
    return _Chosen(suite, fingerprint(suite), SUITES[suite].families, SUITES[suite].steps)


def _versions() -> dict[str, str]:
    names = ("learned-opt", "jax", "jaxlib", "optax", "numpy")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    device = jax.devices()[0]
    return found | {
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
    if not seeds:
        raise ValueError("seeds: at least one is needed")
    Fixed(steps)
    return _points(steps, points)


class _Outcome(NamedTuple):
    """All entries on one task; leading axis: entries."""

    train: np.ndarray  # [entry, seed, point]
    test: np.ndarray
    seconds: np.ndarray  # [entry]
    lower_bound: np.ndarray  # [seed]
    trials: dict[int, np.ndarray]  # entry -> [trial, seed, point], training loss
    finals: dict[int, np.ndarray]  # entry -> [trial], mean over seeds; inf: diverged


def _compile(
    families: Sequence[TaskFamily],
    sources: Sequence[Data],
    batches: Sequence[Batch],
    seeds: Array,
    steps: int,
    points: int,
) -> list[list[Callable[[Data, Theta, Array], Curve]]]:
    """The programs [task][batch], compiled side by side on all cores."""

    def compiled(family: TaskFamily, data: Data, batch: Batch):
        program = _program(family, batch.optimizer, steps, points, ("train", "test"))
        return program.lower(data, batch.thetas, seeds).compile()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = [
            [pool.submit(compiled, family, data, batch) for batch in batches]
            for family, data in zip(families, sources, strict=True)
        ]
        return [[future.result() for future in row] for row in found]


def _run_task(
    programs: Sequence[Callable[[Data, Theta, Array], Curve]],
    data: Data,
    batches: Sequence[Batch],
    seeds: Array,
    steps: int,
) -> _Outcome:
    train, test, seconds, trials, finals = ({} for _ in range(5))
    bound = np.full(len(seeds), np.nan)
    for program, batch in zip(programs, batches, strict=True):
        began = time.perf_counter()
        curve = jax.device_get(program(data, batch.thetas, seeds))
        took = time.perf_counter() - began
        on_train, on_test = (np.asarray(losses, np.float64) for losses in curve.losses)
        bound = np.asarray(curve.lower_bound[0], np.float64)
        for number, variants in batch.members.items():
            losses = on_train[variants]
            diverged = stats.find_diverged(losses, np.broadcast_to(bound, losses.shape[:-1]))
            final = np.where(diverged, np.inf, losses[..., -1]).mean(axis=-1)
            best = variants.start + int(np.argmin(final))
            trials[number], finals[number] = losses, final
            train[number], test[number] = on_train[best], on_test[best]
            seconds[number] = took / steps / on_train[..., 0].size
    numbers = range(len(trials))
    return _Outcome(
        *(np.stack([found[number] for number in numbers]) for found in (train, test, seconds)),
        lower_bound=bound,
        trials=trials,
        finals=finals,
    )


def evaluate(
    entries: Sequence[Entry],
    suite: str | Iterable[TaskFamily],
    seeds: int | Sequence[int] = 3,
    steps: int | None = None,
    points: int = DEFAULT_POINTS,
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """Trains every task of `suite` with every entry, once for each seed, and measures the curves.

    suite: name of one, or families. seeds: how many, or which. steps: updates of each run, of which
    learned rules are told; None for as many as the suite says, 1,000 for families. points:
    measurements after the start, rounded down to a divisor of steps. progress: called with a line
    now and then. Raises MissingData before anything runs.
    """
    name, fingerprint, families, default = _suite(suite)
    steps = default if steps is None else steps
    points = check(entries, seeds, steps, points)
    seeds = tuple(range(seeds) if isinstance(seeds, int) else seeds)
    sources = [jax.device_put(family.load()) for family in families]
    batches, keys = _batches(entries), jnp.asarray(seeds)
    progress(f"{name}: compiling {len(batches) * len(families)} programs")
    programs = _compile(families, sources, batches, keys, steps, points)
    outcomes = []
    for number, family in enumerate(families):
        began = time.perf_counter()
        outcomes.append(_run_task(programs[number], sources[number], batches, keys, steps))
        took = time.perf_counter() - began
        progress(f"{number + 1}/{len(families)} {family.name}: {took:.1f} s")
    train = np.stack([outcome.train for outcome in outcomes], axis=1)
    bound = np.stack([outcome.lower_bound for outcome in outcomes])
    test = np.stack([outcome.test for outcome in outcomes], axis=1)
    tuned = {entry.name: n for n, entry in enumerate(entries) if entry.learning_rates}
    return Report(
        suite=name,
        fingerprint=fingerprint,
        optimizers=tuple(entry.name for entry in entries),
        tasks=tuple(family.name for family in families),
        seeds=seeds,
        eval_steps=tuple(range(0, steps + 1, steps // points)),
        train_loss=train,
        test_loss=test,
        lower_bound=bound,
        diverged=stats.find_diverged(train, np.broadcast_to(bound, train.shape[:-1])),
        seconds_per_step=np.stack([outcome.seconds for outcome in outcomes], axis=1),
        grids={
            name: _grid(entries[n], [outcome.finals[n] for outcome in outcomes])
            for name, n in tuned.items()
        },
        settings={"steps": steps, "points": points},
        versions=_versions(),
        trial_loss={
            name: np.stack([outcome.trials[n] for outcome in outcomes], axis=1)
            for name, n in tuned.items()
        },
        forms={entry.name: form_of(entry.optimizer) for entry in entries},
    )


def _grid(entry: Entry, trials: Sequence[np.ndarray]) -> Grid:
    return Grid(
        trials=tuple({"learning_rate": rate} for rate in entry.learning_rates),
        chosen=tuple(int(np.argmin(finals)) for finals in trials),
        final_loss=tuple(
            tuple(float(final) if np.isfinite(final) else None for final in finals)
            for finals in trials
        ),
    )


@functools.lru_cache(maxsize=4)
def _selection_programs(
    optimizer: LearnedOptimizer, families: tuple[TaskFamily, ...], steps: int
) -> list[tuple[Callable[[Data, Theta, Array], Curve], Data]]:
    return [
        (_program(family, optimizer, steps, 1, ("train",)), jax.device_put(family.load()))
        for family in families
    ]


def selection_score(
    optimizer: LearnedOptimizer,
    theta: Theta,
    suite: str | Iterable[TaskFamily],
    seeds: int | Sequence[int] = 2,
    steps: int = 500,
) -> float:
    """How well `theta` does on a suite, lower is better: the mean of stats.log_progress.

    The mean is over tasks and seeds, on the whole training split after `steps` updates. Compiled
    once for each (optimizer, suite, steps) and kept: further calls take other thetas.
    """
    seeds = tuple(range(seeds) if isinstance(seeds, int) else seeds)
    families = _suite(suite).families
    thetas = (jax.tree.map(lambda leaf: np.asarray(leaf)[None], jax.device_get(theta)), None)

    def progress(program, data):
        curve = jax.device_get(program(data, thetas, jnp.asarray(seeds)))
        losses = np.asarray(curve.losses[0], np.float64)
        return stats.log_progress(losses[..., 0], losses[..., -1], np.asarray(curve.lower_bound))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(
            lambda pair: progress(*pair), _selection_programs(optimizer, families, steps)
        )
        return float(np.mean(list(found)))
