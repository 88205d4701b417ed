"""What meta-training a controller costs, bucket by bucket, and what it adds to a plain run."""

import time
from collections.abc import Iterator
from typing import Any

import jax

from learned_opt.controller.actions import start_values
from learned_opt.registry import make
from meta_train.benchmarks.timing import medians
from meta_train.config.model import Config
from meta_train.learners.ppo.environment import baseline_losses, draw_task
from meta_train.learners.ppo.learner import ControllerState, PPOLearner
from meta_train.run.build import build_learner

REPETITIONS = 5


def controller(config: Config, source: str = "config") -> Iterator[dict[str, Any]]:
    """A row for every bucket of the config, then one for a whole iteration.

    overhead: of an episode over as many runs of plain CIAO with the same evaluations: policy,
    critic, statistics, registers. Raises ValueError where the config does not train a controller.
    """
    learner = build_learner(config, source)
    if not isinstance(learner, PPOLearner):
        raise ValueError(f"{source}: estimator.kind is not ppo")
    data = learner.load()
    state = learner.init(jax.random.key(config.seed), data)
    for number in range(len(learner.environments)):
        yield _bucket(learner, state, data[number], number)
    taken, _ = medians({"all": lambda: learner.step(state, data)[1]}, repetitions=REPETITIONS + 1)
    yield {
        "bucket": "iteration",
        "episodes": sum(learner.episodes),
        "environment_steps_per_second": learner.inner_steps / taken["all"],
        "iterations_per_hour": 3600.0 / taken["all"],
    }


def _bucket(learner: PPOLearner, state: ControllerState, data: Any, number: int) -> dict[str, Any]:
    environment, episodes = learner.environments[number], learner.episodes[number]
    start = start_values(learner.optimizer.control.table)
    values: dict[str, Any] = {name: float(x) for name, x in start.items()}
    rule = make("ciao", **values)

    @jax.jit
    def plain(data: Any, keys: Any) -> Any:
        cfg = draw_task(environment, state.key, 0)
        return jax.vmap(lambda key: baseline_losses(environment, rule, data, cfg, key))(keys)

    keys = jax.random.split(jax.random.key(0), episodes)
    runs = {"played": lambda: learner.play(state, data, number), "plain": lambda: plain(data, keys)}
    began = time.perf_counter()
    jax.block_until_ready(runs["played"]())
    compiled = time.perf_counter() - began
    jax.block_until_ready(runs["plain"]())
    taken, _ = medians(runs, repetitions=REPETITIONS)
    steps = episodes * environment.pauses * environment.steps
    return {
        "bucket": environment.name,
        "episodes": episodes,
        "environment_steps_per_second": steps / taken["played"],
        "overhead": taken["played"] / taken["plain"] - 1.0,
        "compile_seconds": compiled,
    }


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    head = (
        f"{row['bucket']:<36} {row['episodes']:>4} episodes "
        f"{row['environment_steps_per_second']:>9,.0f} environment steps/s"
    )
    if "iterations_per_hour" in row:
        return f"{head} {row['iterations_per_hour']:>7,.0f} iterations/h"
    return f"{head} {row['overhead']:>7.0%} over CIAO {row['compile_seconds']:>6.1f} s compile"
