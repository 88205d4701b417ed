"""What a training step of every task family costs: alone, and inside a vmapped unroll."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.hand.spec import HandDesigned
from learned_opt.registry import HAND_DESIGNED
from meta_train.inner.horizons import Fixed
from meta_train.inner.unroll import Episodes, start, unroll
from tasks.base import TaskFamily
from tasks.cost import cost
from tasks.names import check_name
from tasks.registry import FAMILIES

TASKS = 32
LENGTH = 20
REPETITIONS = 5


def tasks(kinds: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """One row for each kind of FAMILIES (or of `kinds`), at its default sizes, under SGD.

    Raises ValueError for an unknown kind, MissingData.
    """
    for kind in kinds:
        check_name("kind", kind, FAMILIES)
    for kind in kinds or sorted(FAMILIES):
        yield {"kind": kind, **_measure(FAMILIES[kind]())}


def _measure(family: TaskFamily) -> dict[str, Any]:
    found = cost(family)
    alone, compiled = _seconds(family, 1)
    together, _ = _seconds(family, TASKS)
    return {
        "parameters": found.parameters,
        "operations": found.operations,
        "alone_us": 1e6 * alone,
        "vmapped_us": 1e6 * together / TASKS,
        "compile_seconds": compiled,
    }


def _seconds(family: TaskFamily, count: int) -> tuple[float, float]:
    """Median seconds of one step of `count` tasks, and those of tracing and compiling."""
    rule: HandDesigned = HAND_DESIGNED["sgd"]
    episodes = Episodes(family, rule, Fixed(LENGTH))
    data = jax.tree.map(jnp.asarray, family.load())
    theta = rule.init(jax.random.key(0))

    @jax.jit
    def begin(data, keys):
        return jax.vmap(lambda key: start(episodes, data, theta, key, 0))(keys)

    @jax.jit
    def run(data, inner, keys):
        return jax.vmap(lambda i, k: unroll(episodes, data, theta, i, k, 0, LENGTH))(inner, keys)

    keys = jax.random.split(jax.random.key(1), count)
    inner = jax.block_until_ready(begin(data, keys))
    began = time.perf_counter()
    program = run.lower(data, inner, keys).compile()
    compiled = time.perf_counter() - began
    times = []
    for _ in range(REPETITIONS + 1):
        began = time.perf_counter()
        jax.block_until_ready(program(data, inner, keys))
        times.append(time.perf_counter() - began)
    return float(np.median(times[1:])) / LENGTH, compiled


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    return (
        f"{row['kind']:<28} {row['parameters']:>9,} parameters {row['operations']:>13,} operations "
        f"{row['alone_us']:>9,.0f} us alone {row['vmapped_us']:>9,.1f} us vmapped "
        f"{row['compile_seconds']:>6.1f} s compile"
    )
