"""How fast meta-training runs, what its time goes into and how that grows."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax

from learned_opt.anchors.base import RATE, Anchor
from learned_opt.anchors.rule import as_transformation
from learned_opt.base import LearnedOptimizer
from learned_opt.hand.spec import HandDesigned
from learned_opt.registry import HAND_DESIGNED
from meta_train.benchmarks.timing import medians, peak_memory
from meta_train.config.model import Config
from meta_train.learners.gradient import GradientLearner
from meta_train.run.build import build_gradient_learner, build_tasks
from tasks.cost import cost

SECONDS = 10.0
SWEEP_SECONDS = 3
LEAST_STEPS = 5


class _Running:
    """A learner on its way: every call makes one meta-step."""

    def __init__(self, learner: GradientLearner, seed: int) -> None:
        self.learner = learner
        self.data = learner.load()
        self.state = learner.init(jax.random.key(seed), self.data)
        began = time.perf_counter()
        jax.block_until_ready(self())
        self.first_step_seconds = time.perf_counter() - began

    def __call__(self) -> Any:
        self.state, metrics = self.learner.step(self.state, self.data)
        return metrics


def meta(config: Config, source: str = "config", seconds: float = SECONDS) -> dict[str, Any]:
    """Speed of meta-training with `config`, measured for about `seconds` besides compilation.

    optimizer_share: of a meta-step, what is left out when SGD trains in the rule's place.
    anchor_share: what the rule's anchor alone adds to that SGD; only of rules with an anchor.
    host_percent: time of the host's own work on a meta-step, done while another one computes.
    """
    learner = build_gradient_learner(config, source)
    running = _Running(learner, config.seed)
    memory = peak_memory()  # before there is a second learner
    runs = {"rule": running, "sgd": _Running(_under(HAND_DESIGNED["sgd"], learner), config.seed)}
    if isinstance(anchor := getattr(learner.optimizer, "anchor", None), Anchor):
        alone = HandDesigned("anchor", partial(as_transformation, anchor), RATE, needs=("params",))
        runs["anchor"] = _Running(_under(alone, learner), config.seed)
    taken, made = medians(runs, seconds, LEAST_STEPS)
    median = taken["rule"]
    shares = {"optimizer_share": 1.0 - taken["sgd"] / median}
    if "anchor" in taken:
        shares["anchor_share"] = (taken["anchor"] - taken["sgd"]) / median
    return {
        "inner_steps_per_second": learner.inner_steps / median,
        "meta_steps_per_second": 1.0 / median,
        "first_step_seconds": running.first_step_seconds,
        **shares,
        "host_percent": 100.0 * _host_seconds(running, config.log_every) / median,
        "meta_steps": made,
        "devices": config.parallel.devices,
        "backend": config.parallel.backend,
        "peak_memory_mib": memory,
    }


def _under(rule: LearnedOptimizer, learner: GradientLearner) -> GradientLearner:
    """The same program with another rule that is trained, such as SGD, which costs next to nothing.

    What names groups of the rule's weights means nothing to the other.
    """

    def change(estimator: Any) -> Any:
        chosen = {"only": ()} if hasattr(estimator, "only") else {}
        episodes = dataclasses.replace(estimator.episodes, optimizer=rule)
        return dataclasses.replace(estimator, episodes=episodes, **chosen)

    estimators = tuple(change(estimator) for estimator in learner.estimators)
    return dataclasses.replace(learner, optimizer=rule, estimators=estimators, only=())


def _host_seconds(running: _Running, log_every: int) -> float:
    """Until a meta-step is under way, and its share of fetching and writing log_every metrics."""
    started, pending = [], []
    for _ in range(max(LEAST_STEPS, log_every)):
        began = time.perf_counter()
        pending.append(running())
        started.append(time.perf_counter() - began)
        jax.block_until_ready(pending[-1])
    began = time.perf_counter()
    for metrics in jax.device_get(pending):
        json.dumps({name: float(value) for name, value in metrics.items()})
    fetched = (time.perf_counter() - began) / len(pending)
    return sorted(started)[len(started) // 2] + fetched


def sweep(
    config: Config, source: str, target: str, overrides: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Rows of speed against number of devices, tasks, parameters and the length of a window.

    devices: as many tasks on one device with one core as on each further one with a core of its
    own. parameters: hidden layers of other widths, where a task has widths. target, overrides: of
    the config, for the processes that see other devices.
    """
    yield from _over_devices(config, target, overrides)
    for vary, value, changed in variants(config):
        learner = build_gradient_learner(changed, source)
        running = _Running(learner, changed.seed)
        taken, _ = medians({"rule": running}, SWEEP_SECONDS, LEAST_STEPS)
        yield _row(vary, value, learner.inner_steps / taken["rule"], running.first_step_seconds)


def variants(config: Config) -> Iterator[tuple[str, int, Config]]:
    """What the sweep varies, the value it takes and the config that has it."""
    for factor in (1, 2, 4):
        tasks = factor * config.num_tasks
        yield "tasks", tasks, config.model_copy(update={"num_tasks": tasks})
    if any(hasattr(block, "widths") for block in config.tasks):
        for factor in (2, 4, 8):
            changed = _widened(config, factor)
            families = build_tasks(changed).families
            yield "parameters", sum(cost(family).parameters for family in families), changed
    # Longer windows than the config's may not fit into its shortest run; some have no windows.
    for part in (2, 5):
        if length := getattr(config.estimator, "length", 0) // part:
            estimator = config.estimator.model_copy(update={"length": length})
            yield "length", length, config.model_copy(update={"estimator": estimator})


def _row(vary: str, value: Any, speed: float, first: float) -> dict[str, Any]:
    return {
        "vary": vary,
        "value": value,
        "inner_steps_per_second": speed,
        "first_step_seconds": first,
    }


def _widened(config: Config, factor: int) -> Config:
    tasks = tuple(
        block.model_copy(update={"widths": tuple(factor * width for width in block.widths)})
        if hasattr(block, "widths")
        else block
        for block in config.tasks
    )
    return config.model_copy(update={"tasks": tasks})


def _over_devices(
    config: Config, target: str, overrides: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Each number of devices in a process of its own, on a host pinned to as many cores."""
    on_host = jax.default_backend() == "cpu" and hasattr(os, "sched_setaffinity")
    cores = sorted(os.sched_getaffinity(0)) if on_host else []
    most = len(cores) if on_host else jax.device_count()
    for devices in (count for count in range(1, most + 1) if most % count == 0):
        chosen = [f"parallel.devices={devices}", f"num_tasks={config.num_tasks * most}"]
        command = ["bench", "meta", target, *overrides, *chosen, "--json"]
        start = "import sys; from meta_train.cli import main; sys.exit(main())"
        if on_host:
            os.sched_setaffinity(0, cores[:devices])
        try:
            done = subprocess.run(
                [sys.executable, "-c", start, *command, f"--seconds={SWEEP_SECONDS}"],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
        finally:
            if on_host:
                os.sched_setaffinity(0, cores)
        found = json.loads(done.stdout)
        speed, first = found["inner_steps_per_second"], found["first_step_seconds"]
        yield _row("devices", devices, speed, first)


def line(row: dict[str, Any]) -> str:
    """A row of the sweep as text."""
    return (
        f"{row['vary']:<12} {row['value']:>8,} {row['inner_steps_per_second']:>12,.0f} inner "
        f"steps/s  first step {row['first_step_seconds']:>6.1f} s"
    )
