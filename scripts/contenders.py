"""Optimizers named on a command line, trained on one program and timed in turns."""

import argparse
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import learned_opt
from meta_train import yaml_subset

ADAMW = "adamw:schedule=warmup_cosine:learning_rate="
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)  # of AdamW
TURN = 10  # steps of one contender before the next is timed
ROUNDS, SECONDS = 5, 1.0  # turns and time that each gets at least


class Reached(NamedTuple):
    """Where a run is after a step. loss: of the minibatch, before the step."""

    params: Any
    state: Any
    loss: jax.Array


Run = Iterator[Reached]


def adamw(rates: Iterable[float]) -> list[str]:
    """AdamW with warm-up and cosine decay, once for each rate."""
    return [f"{ADAMW}{rate:g}" for rate in rates]


def build(contender: str, num_steps: int) -> optax.GradientTransformationExtraArgs:
    """The optimizer that `contender` names, for a run of num_steps.

    contender: NAME or NAME:key=value:key=value, a hand-designed optimizer with its hyperparameters
    or what `learned_opt.load` takes with its arguments. Raises ValueError.
    """
    name, *pairs = contender.split(":")
    options = yaml_subset.parse_pairs(contender, pairs)
    if name in learned_opt.HAND_DESIGNED:
        return learned_opt.make(name, num_steps, **options)
    try:
        return learned_opt.load(name, num_steps, **options)
    except TypeError as error:
        raise ValueError(f"{contender}: {error}") from error


def result_file(text: str) -> Path:
    """An argument of the command line that names a file to write."""
    if not Path(text).parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: there is no folder {Path(text).parent}")
    return Path(text)


def training_step(loss_fn: Callable, tx: optax.GradientTransformationExtraArgs) -> Callable:
    """The compiled step: (params, state, batch) -> Reached. loss_fn: of params and a batch."""

    @jax.jit
    def step(params, state, batch):
        loss, grads = jax.value_and_grad(loss_fn)(params, batch)
        updates, state = tx.update(grads, state, params, value=loss)
        return Reached(optax.apply_updates(params, updates), state, loss)

    return step


def run(step: Callable, params: Any, state: Any, batches: Iterable) -> Run:
    """Trains as far as it is iterated."""
    for batch in batches:
        reached = step(params, state, batch)
        yield reached
        params, state = reached.params, reached.state


def final(losses: list[jax.Array]) -> float:
    """The mean of the last twentieth."""
    return float(np.mean(jax.device_get(losses[-max(1, len(losses) // 20) :])))


def finite(loss: Any) -> float | None:
    """The loss as a number of Python, None where it is not finite."""
    return float(loss) if np.isfinite(loss) else None


def of_own_cost(names: list[str]) -> list[str]:
    """The names without AdamW after the first: its steps take the same time at every rate."""
    scheduled = [name for name in names if name.startswith(ADAMW)]
    return [name for name in names if name not in scheduled[1:]]


def milliseconds(runs: Mapping[str, Run]) -> dict[str, float]:
    """The median time of a step of each run; they take turns, so that noise hits all alike."""
    rounds: list[list[float]] = []
    while len(rounds) < 1 + ROUNDS or np.sum(rounds[1:]) < SECONDS * len(runs):
        rounds.append([])
        for steps in runs.values():
            start = time.perf_counter()
            jax.block_until_ready([next(steps).loss for _ in range(TURN)])
            rounds[-1].append(time.perf_counter() - start)
    medians = 1e3 / TURN * np.median(rounds[1:], axis=0)  # the first round compiles
    return dict(zip(runs, medians.tolist(), strict=True))


def best(results: Mapping[str, Mapping[str, Any]], by: str) -> str | None:
    """The AdamW with the lowest results[...][by], None if there is no AdamW."""
    losses = {name: row[by] for name, row in results.items() if name.startswith(ADAMW)}
    height = lambda name: math.inf if losses[name] is None else losses[name]
    return min(losses, key=height, default=None)


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for every contender; a star marks the best AdamW by either loss."""
    columns = list(max(results.values(), key=len))
    stars = {column: best(results, column) for column in ("train", "valid")}
    width = max(map(len, results))

    def cell(name: str, column: str) -> str:
        if column not in results[name]:
            return ""
        value = results[name][column]
        text = "diverged" if value is None else f"{value:.4g}"
        return f"{text}{'*' if stars.get(column) == name else ' '}"

    lines = [" " * width + "".join(f"{column:>10} " for column in columns)]
    lines += [
        f"{name:{width}}" + "".join(f"{cell(name, column):>11}" for column in columns)
        for name in results
    ]
    return "\n".join(map(str.rstrip, lines))
