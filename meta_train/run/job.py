"""One meta-training job: config and folder in, weights out, whatever happens in between."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from io import StringIO, TextIOBase
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np

from learned_opt import io
from learned_opt.base import LearnedOptimizer, Theta
from meta_train.config.model import Config
from meta_train.learners.base import MetaLearner
from meta_train.progress import Progress
from meta_train.run import processes, run_folder
from meta_train.run.build import build_curriculum, build_score, build_start
from meta_train.run.checkpoint import CheckpointError, Checkpoints, Unsaved, saved_steps
from meta_train.run.curriculum import Curriculum
from meta_train.run.loop import Best, Loop, Plan, RunState, begin, last_record
from meta_train.run.metrics_log import JsonLines, Sink, keep_lines, warn
from meta_train.run.run_folder import RunError, RunFolder
from meta_train.run.wandb_log import Guarded, Wandb
from tasks.suites import SUITES


@dataclass(frozen=True)
class Outcome:
    status: str  # finished or interrupted
    step: int


def train(
    config: Config,
    path: Path,
    stream: TextIO | TextIOBase,
    stopped: Callable[[], bool],
    overrides: Sequence[str] = (),
    resume: bool = False,
    source: str = "config",
) -> Outcome:
    """Runs a job in the folder `path`, from its start or from its last checkpoint.

    stream: gets the progress. stopped: asked between meta-steps. overrides: kept for the record.
    source: names the config in messages. Raises ConfigError, RunError and MissingData before
    anything is written, CheckpointError where the last checkpoint does not fit, Unsaved where a
    checkpoint cannot be written and the config says to stop, or it is the last, NothingFinite where
    the config says to give up, Lost where another process of the run is gone.
    """
    path = path.absolute()
    old = run_folder.check(path, config, resume)
    curriculum = build_curriculum(config, source)
    score = build_score(config, source)
    begun = old is not None and bool(saved_steps(path / "checkpoints"))
    first = None if begun else build_start(config, source)
    curriculum.program(0)  # so that missing data shows before there is a folder
    folder = _open(path, config, overrides, new=old is None)
    checkpoints = Checkpoints(
        folder.checkpoints, config.checkpoint.keep, jax.process_index(), jax.process_count()
    )
    try:
        sinks = _remote_sinks(config, folder) if folder.owner else []
        state = _start(curriculum, first, config, old, checkpoints, folder)
        if folder.owner:
            run_folder.describe(path, config, overrides)
            folder.write_status("running", int(state.learner.step), config.steps)
            sinks.append(JsonLines(folder.metrics, folder.histograms))
        learner = curriculum.program(curriculum.stage_of_state(int(state.learner.step))).learner
        saver = Saver(config, folder, learner, checkpoints)
        progress = Progress(stream if folder.owner else StringIO(), config.steps)

        def must_stop() -> bool:
            saver.check()
            return stopped()

        loop = Loop(curriculum, _plan(config), score, saver.save, must_stop, sinks, progress)
        with processes.losses_named():
            return _run(loop, state, folder, checkpoints)
    except (RunError, CheckpointError):
        raise  # the run that lies there is as good as before
    except BaseException as error:
        checkpoints.close()  # a save under way writes the status, too
        if folder.owner:
            reason = f"{type(error).__name__}: {error}"
            with suppress(OSError):  # the disk may be full; the error at hand says more
                folder.write_status("failed", checkpoints.latest() or 0, config.steps, reason)
        raise
    finally:
        checkpoints.close()
        folder.close()


def _open(path: Path, config: Config, overrides: Sequence[str], new: bool) -> RunFolder:
    """The run's folder; the first of several processes makes it when all have looked at it."""
    processes.meet("all processes have looked at the folder")
    if not processes.is_first():
        processes.meet("the folder is there")
        return RunFolder(path, owner=False)
    folder = run_folder.create(path, config, overrides) if new else RunFolder(path)
    processes.meet("the folder is there")
    return folder


def _start(
    curriculum: Curriculum,
    first: Theta | None,
    config: Config,
    old: Config | None,
    checkpoints: Checkpoints,
    folder: RunFolder,
) -> RunState:
    """The state to go on from; what the folder says about later steps is dropped.

    first: the weights a fresh run starts from, None for the rule's own start.
    """
    found = checkpoints.sound(warn) if folder.owner else None
    step = processes.of_first(-1 if found is None else found)
    learner, data = curriculum.program(curriculum.stage_of_state(max(step, 0)))
    state = begin(learner, learner.init(jax.random.key(config.seed), data, first))
    if step < 0:
        _keep_lines(folder, lambda line: False)
        _keep_histograms(folder, state)
        return state
    if step > config.steps:
        raise RunError(f"{folder.path}: is at meta-step {step}, beyond steps = {config.steps}")
    restored = checkpoints.restore(step, state)
    others = folder.other_scores
    if old is not None and _scored_by(old) != _scored_by(config):
        others = step
        if folder.owner:
            # On disk before the new config is: a process killed from here on must not forget it.
            folder.other_scores = step
    if step <= others:
        # Scores of different evaluations cannot be compared: the search for the best begins anew.
        restored = restored._replace(best=state.best, evaluated=state.evaluated)
        _keep_lines(folder, lambda line: "eval/score" not in line)
    evaluated = int(restored.evaluated)
    _keep_lines(
        folder,
        lambda line: (
            line["step"] < step
            or (
                line["step"] == step
                and ("eval/score" not in line or evaluated == step)
                and "time/stage_seconds" not in line  # of the stage that is now entered again
            )
        ),
    )
    _keep_histograms(folder, restored)
    return restored._replace(learner=learner.place(restored.learner))


def _keep_lines(folder: RunFolder, keep: Callable[[dict[str, Any]], bool]) -> None:
    if folder.owner:
        keep_lines(folder.metrics, keep)


def _keep_histograms(folder: RunFolder, state: RunState) -> None:
    """Those up to the last that the state holds, which were written before it was."""
    if folder.owner:
        known = last_record(state)
        keep_lines(folder.histograms, lambda row: row["step"] <= known)


def _scored_by(config: Config) -> Any:
    chosen = config.evaluation
    return chosen and (chosen.suite, chosen.seeds, chosen.steps)


def _remote_sinks(config: Config, folder: RunFolder) -> list[Sink]:
    """Begun first, so that a missing key or network shows at once."""
    chosen = config.wandb
    if chosen.mode == "disabled":
        return []
    try:
        sink = Wandb(folder.path, chosen.mode, chosen.project, config.model_dump(mode="json"))
    except Exception as error:  # wandb has no common class for what can go wrong
        raise RunError(
            f"wandb cannot start: {error} (wandb.mode=offline needs no account)"
        ) from error
    return [Guarded("wandb", sink)]


def _plan(config: Config) -> Plan:
    return Plan(
        steps=config.steps,
        log_every=config.log_every,
        evaluate_every=config.evaluation.every if config.evaluation else None,
        save_every=config.checkpoint.every_steps,
        save_seconds=config.checkpoint.every_seconds,
        give_up_after=config.give_up_after,
        histograms_every=config.histograms_every,
    )


@dataclass(frozen=True)
class Saver:
    """Saves a run in the background; what a failure does to the run is in its config."""

    config: Config
    folder: RunFolder
    learner: MetaLearner
    checkpoints: Checkpoints

    def save(self, step: int, state: RunState) -> None:
        """Takes a copy of all that is to be written; the files follow, the checkpoint first."""
        self._or_go_on(self.checkpoints.wait)
        theta = jax.tree.map(np.array, jax.device_get(self.learner.theta(state.learner)))

        def write() -> None:
            _write_weights(self.folder, self.learner.optimizer, theta, step, state.best, self._card)
            self.folder.write_status("running", step, self.config.steps)

        if self.folder.owner:
            self.checkpoints.save(step, state, write)
        else:
            self.checkpoints.save(step, state)

    def check(self) -> None:
        """Raises Unsaved, or warns, where the last save has failed."""
        self._or_go_on(self.checkpoints.check)

    def _or_go_on(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Unsaved as error:
            if self.config.checkpoint.on_error == "stop":
                raise
            warn(f"{error}; training goes on")

    @cached_property
    def _card(self) -> dict[str, Any]:
        about: dict[str, Any] = {
            "made_by": "learned-opt train",
            "config": self.config.model_dump(mode="json"),
            "commit": run_folder.commit(),
            "licence": "Apache-2.0",
        }
        if self.config.evaluation:
            version = SUITES[self.config.evaluation.suite].version
            selection = self.config.evaluation.model_dump(mode="json")
            about["selection"] = selection | {"version": version}
        return about


def _run(loop: Loop, state: RunState, folder: RunFolder, checkpoints: Checkpoints) -> Outcome:
    steps, done = loop.plan.steps, int(state.learner.step)
    if done < steps:
        loop.progress.say(f"{folder.path}: from meta-step {done}; compiling")
    failed = True
    try:
        loop.run(state)
        checkpoints.wait()
        failed = False
    finally:
        loop.progress.close()
        for sink in loop.sinks:
            sink.close(failed)
    status = "finished" if loop.step >= steps else "interrupted"
    if folder.owner:
        folder.write_status(status, loop.step, steps)
    return Outcome(status, loop.step)


def _write_weights(
    folder: RunFolder,
    optimizer: LearnedOptimizer,
    theta: Theta,
    step: int,
    best: Best,
    card: dict[str, Any],
) -> None:
    """Weights of the last meta-step and the best ones; both can be made again from a checkpoint."""
    finite = all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(theta))
    if finite:
        io.write(folder.last_weights, optimizer, theta, {**card, "meta_steps": step})
    if int(best.step) >= 0:
        found = {"meta_steps": int(best.step), "selection_score": float(best.score)}
        io.write(folder.best_weights, optimizer, best.theta, {**card, **found})
    else:
        folder.best_weights.unlink(missing_ok=True)
