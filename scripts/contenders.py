"""Optimizers named on a command line, trained on one program and timed in turns."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import learned_opt
from meta_train import yaml_text

ADAMW = "adamw:schedule=warmup_cosine,learning_rate="
TURN, ROUNDS = 10, 5  # steps of one contender before the next is timed; turns of each


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

    contender: NAME or NAME:key=value,key=value, a hand-designed optimizer with its hyperparameters
    or what `learned_opt.load` takes with its arguments. Raises ValueError.
    """
    name, _, given = contender.partition(":")
    options: dict[str, Any] = {}
    for pair in given.split(",") if given else ():
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise ValueError(f"{contender}: {pair!r} is not allowed; it must be key=value")
        options[key] = yaml_text.parse(value)
    if name in learned_opt.HAND_DESIGNED:
        return learned_opt.make(name, num_steps, **options)
    try:
        return learned_opt.load(name, num_steps, **options)
    except TypeError as error:
        raise ValueError(f"{contender}: {error}") from error


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


def final(losses: list[jax.Array]) -> float | None:
    """The mean of the last twentieth."""
    return finite(np.mean(jax.device_get(losses[-max(1, len(losses) // 20) :])))


def finite(loss: Any) -> float | None:
    """The loss as a number of Python, None where it is not finite."""
    return float(loss) if np.isfinite(loss) else None


def milliseconds(runs: Mapping[str, Run]) -> dict[str, float]:
    """The median time of a step of each run; they take turns, so that noise hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(1 + ROUNDS):
        for name, steps in runs.items():
            start = time.perf_counter()
            jax.block_until_ready([next(steps).loss for _ in range(TURN)])
            seconds[name].append((time.perf_counter() - start) / TURN)
    return {name: 1e3 * float(np.median(took[1:])) for name, took in seconds.items()}


def best(results: Mapping[str, Mapping[str, Any]], by: str) -> str:
    """The AdamW with the lowest results[...][by]."""
    losses = {name: row[by] for name, row in results.items() if name.startswith(ADAMW)}
    return min(losses, key=lambda name: math.inf if losses[name] is None else losses[name])
