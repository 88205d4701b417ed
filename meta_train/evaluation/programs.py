"""The program that trains one task with one optimizer and measures it along the way."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.base import Horizon, LearnedOptimizer, Theta, eval_params, reads_eval_value
from meta_train.inner.horizons import Fixed
from meta_train.inner.unroll import Episodes, start, unroll
from tasks.base import Data, Split, TaskFamily


class Setting(NamedTuple):
    """An optimizer with all that is tuned about it.

    learning_rate: replaces the rule's own; None leaves it.
    """

    optimizer: LearnedOptimizer
    theta: Theta
    learning_rate: Any = None


@dataclass(frozen=True)
class AsDeployed:
    """A rule as its user runs it: nothing random at its start; theta is (weights, rate or None)."""

    optimizer: LearnedOptimizer

    @property
    def reads_eval_value(self) -> bool:
        return reads_eval_value(self.optimizer)

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

    losses: tuple[Float[Array, "*runs point"], ...]  # one for each split
    lower_bound: Float[Array, "*runs"]  # NaN where the task declares none


Program = Callable[[Data, Theta, Array], Curve]


def lanes() -> int:
    """How many settings a program runs side by side.

    On a CPU one: it takes no longer, and a step costs what it costs alone. An accelerator is
    waited for, not worked to capacity, by tasks of this size. All rules take the same number of
    lanes, so that their times per step compare and no run depends on how many others there are.
    """
    return 1 if jax.default_backend() == "cpu" else 8


def build_program(
    family: TaskFamily,
    optimizer: LearnedOptimizer,
    steps: int,
    points: int,
    splits: Sequence[Split],
    vmapped: bool = False,
) -> Any:
    """A jitted (data, theta, seeds) -> Curve of every seed; theta is AsDeployed's.

    Every run of `steps` updates is measured on the whole of `splits` at its start and `points`
    times more. Keys come from the seed alone, so all optimizers meet the same tasks, starts and
    minibatches. vmapped: over a leading axis of theta as well, then [setting, seed, ...].
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

    runs = jax.vmap(run, in_axes=(None, None, 0))
    if vmapped:
        runs = jax.vmap(runs, in_axes=(None, 0, None))
    return jax.jit(runs, compiler_options=_compiler_options())


def build_ends(
    family: TaskFamily,
    optimizer: LearnedOptimizer,
    lengths: Sequence[int],
    splits: Sequence[Split],
) -> Any:
    """A jitted (data, theta, seeds, steps) -> Curve of the first and the last point alone.

    steps: any of `lengths`, all of which this one program runs. With one length the curves are
    those of `build_program` with one point.
    """
    part, most = math.gcd(*lengths), max(lengths)
    episodes = Episodes(family, AsDeployed(optimizer), Fixed(most))

    def run(data: Data, theta: Theta, seed: Array, steps: Array) -> Curve:
        start_key, noise_key, steps_key = jax.random.split(jax.random.key(seed), 3)
        inner = start(episodes, data, theta, start_key, 0, jnp.asarray(steps, jnp.int32))
        task = family.task(inner.cfg, data)
        keys = jax.random.split(steps_key, most // part + 1)

        def losses(inner):
            point = eval_params(inner.opt_state, inner.params)
            return jnp.stack([task.loss(point, noise_key, task.whole(s)) for s in splits])

        def advance(count, carry):
            # The first turn measures the start, so that the losses are compiled once.
            inner, found = carry
            inner = jax.lax.cond(
                count == 0,
                lambda inner: inner,
                lambda inner: unroll(episodes, data, theta, inner, keys[count], 0, part)[0],
                inner,
            )
            ends = (count == 0) | (count == steps // part)
            place = jnp.minimum(count, 1)
            measured = jax.lax.cond(ends, losses, lambda inner: found[:, place], inner)
            return inner, found.at[:, place].set(measured)

        found = jnp.zeros((len(splits), 2))
        _, found = jax.lax.fori_loop(0, steps // part + 1, advance, (inner, found))
        bound = jnp.nan if task.lower_bound is None else task.lower_bound
        return Curve(tuple(found), jnp.asarray(bound, jnp.float32))

    runs = jax.vmap(run, in_axes=(None, None, 0, None))
    return jax.jit(runs, compiler_options=_compiler_options())


def _compiler_options() -> dict[str, Any]:
    """On a CPU, light optimization: most evaluations take longer to compile than to run.

    XLA's older CPU emitters would compile a quarter faster and run 1.7 times as long.
    """
    level = "xla_backend_optimization_level"
    if jax.default_backend() != "cpu" or level in os.environ.get("XLA_FLAGS", ""):
        return {}
    return {level: 1}
