"""One meta-training job: config and folder in, weights out, whatever happens in between."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np

from learned_opt import io
from learned_opt.base import LearnedOptimizer, Theta
from meta_train import run_folder
from meta_train.build import build_learner, build_score
from meta_train.checkpoint import Checkpoints
from meta_train.config import Config
from meta_train.learner import GradientLearner
from meta_train.loop import Loop, Plan, RunState, begin
from meta_train.progress import Progress
from meta_train.run_folder import RunError, RunFolder
from meta_train.sinks import Guarded, JsonLines, Sink, Wandb, keep_lines


@dataclass(frozen=True)
class Outcome:
    status: str  # finished or interrupted
    step: int


def train(
    config: Config,
    path: Path,
    stream: TextIO,
    stopped: Callable[[], bool],
    overrides: Sequence[str] = (),
    resume: bool = False,
    source: str = "config",
) -> Outcome:
    """Runs a job in the folder `path`, from its start or from its last checkpoint.

    stream: gets the progress. stopped: asked between meta-steps. overrides: kept for the record.
    source: names the config in messages. Raises ConfigError, RunError and MissingData before
    anything is written, CheckpointError where the last checkpoint does not fit.
    """
    path = path.absolute()
    old = run_folder.check(path, config, resume)
    learner = build_learner(config, source)
    score = build_score(config, source)
    data = learner.load()
    if old is None:
        folder = run_folder.create(path, config, overrides)
    else:
        folder = run_folder.reopen(path, config, overrides)
    checkpoints = Checkpoints(folder.checkpoints, config.checkpoint.keep)
    try:
        state = _start(learner, data, config, old, checkpoints, folder)
        done = int(state.learner.step)
        folder.write_status("running", done, config.steps)
        return _run(config, folder, learner, data, state, score, checkpoints, stream, stopped)
    except BaseException as error:
        step = checkpoints.latest() or 0
        folder.write_status("failed", step, config.steps, f"{type(error).__name__}: {error}")
        raise
    finally:
        checkpoints.close()


def _start(
    learner: GradientLearner,
    data: Any,
    config: Config,
    old: Config | None,
    checkpoints: Checkpoints,
    folder: RunFolder,
) -> RunState:
    """The state to go on from; what the folder says about later steps is dropped."""
    state = begin(learner, learner.init(jax.random.key(config.seed), data))
    step = checkpoints.latest()
    if step is None:
        keep_lines(folder.metrics, lambda line: False)
        return state
    if step > config.steps:
        raise RunError(f"{folder.path}: is at meta-step {step}, beyond steps = {config.steps}")
    restored = checkpoints.restore(step, state)
    evaluated = int(restored.evaluated)
    keep_lines(
        folder.metrics,
        lambda line: (
            line["step"] < step
            or (line["step"] == step and ("eval/score" not in line or evaluated == step))
        ),
    )
    if old is not None and _scored_by(old) != _scored_by(config):
        # Scores of different evaluations cannot be compared: the search for the best begins anew.
        restored = restored._replace(best=state.best, evaluated=state.evaluated)
    return restored._replace(learner=learner.place(restored.learner))


def _scored_by(config: Config) -> Any:
    chosen = config.evaluation
    return chosen and (chosen.suite, chosen.seeds, chosen.steps)


def _run(
    config: Config,
    folder: RunFolder,
    learner: GradientLearner,
    data: Any,
    state: RunState,
    score: Callable[[Theta], float] | None,
    checkpoints: Checkpoints,
    stream: TextIO,
    stopped: Callable[[], bool],
) -> Outcome:
    sinks: list[Sink] = []
    progress = Progress(stream, config.steps)
    card = _card(config)
    failed = True

    def save(step: int, state: RunState) -> None:
        checkpoints.save(step, state)
        _write_weights(folder, learner.optimizer, learner.theta(state.learner), step, state, card)
        folder.write_status("running", step, config.steps)

    try:
        sinks.append(JsonLines(folder.metrics))
        if config.wandb.mode != "disabled":
            chosen = config.model_dump(mode="json")
            remote = Wandb(folder.path, config.wandb.mode, config.wandb.project, chosen)
            sinks.append(Guarded("wandb", remote))
        plan = Plan(
            steps=config.steps,
            log_every=config.log_every,
            evaluate_every=config.evaluation.every if config.evaluation else None,
            save_every=config.checkpoint.every_steps,
            save_seconds=config.checkpoint.every_seconds,
        )
        loop = Loop(learner, data, plan, score or _unscored, save, stopped, sinks, progress)
        done = int(state.learner.step)
        if done < config.steps:
            progress.say(f"{folder.path}: from meta-step {done}; compiling")
        state = loop.run(state)
        checkpoints.wait()
        failed = False
    finally:
        progress.close()
        for sink in sinks:
            sink.close(failed)
    status = "finished" if loop.step >= config.steps else "interrupted"
    folder.write_status(status, loop.step, config.steps)
    return Outcome(status, loop.step)


def _unscored(theta: Theta) -> float:
    del theta
    return float("inf")


def _card(config: Config) -> dict[str, Any]:
    about: dict[str, Any] = {
        "made_by": "learned-opt train",
        "config": config.model_dump(mode="json"),
        "commit": run_folder.commit(),
        "license": "Apache-2.0",
    }
    if config.evaluation:
        about["selection"] = config.evaluation.model_dump(mode="json")
    return about


def _write_weights(
    folder: RunFolder,
    optimizer: LearnedOptimizer,
    theta: Theta,
    step: int,
    state: RunState,
    card: dict[str, Any],
) -> None:
    """Weights of the last meta-step and the best ones; both can be made again from a checkpoint."""
    finite = all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(theta))
    if finite:
        io.write(folder.last_weights, optimizer, theta, {**card, "meta_steps": step})
    if int(state.best.step) >= 0:
        found = {"meta_steps": int(state.best.step), "selection_score": float(state.best.score)}
        io.write(folder.best_weights, optimizer, state.best.theta, {**card, **found})
    else:
        folder.best_weights.unlink(missing_ok=True)
