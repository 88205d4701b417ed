"""The meta-training loop: step, log, evaluate, save, stop. It has no algorithm and no file."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from learned_opt.base import Theta
from learned_opt.monitoring.record import records
from meta_train.learners.base import LearnerState, MetaLearner
from meta_train.progress import Progress
from meta_train.run.curriculum import Curriculum
from meta_train.run.metrics_log import Sink
from meta_train.run.processes import Agreement, Wish


class Best(NamedTuple):
    """The weights with the lowest score so far."""

    theta: Theta  # on the host; the first ones until a score is known
    score: np.ndarray  # float64, infinite until then
    step: np.ndarray  # int64 meta-step, -1 until then


class RunState(NamedTuple):
    """All that a resumed run needs; this is what a checkpoint holds."""

    learner: LearnerState
    best: Best  # changed by evaluations
    evaluated: np.ndarray  # int64 meta-step of the last evaluation, -1 before the first


class NothingFinite(RuntimeError):
    """The run gave up; the message says after how many meta-steps."""


@dataclass(frozen=True)
class Plan:
    """When things happen, in meta-steps unless said otherwise; None means never."""

    steps: int
    log_every: int = 20
    evaluate_every: int | None = None
    save_every: int | None = None
    save_seconds: float | None = None
    give_up_after: int | None = None  # meta-steps in a row whose update was rejected
    histograms_every: int | None = None  # meta-updates, as the meta-optimizer records them

    def evaluates_at(self, step: int) -> bool:
        every = self.evaluate_every
        return every is not None and step > 0 and (step % every == 0 or step == self.steps)

    def evaluations_after(self, step: int) -> int:
        """How many there are between `step`, not counted, and the end."""
        if self.evaluate_every is None or step >= self.steps:
            return 0
        return -(-self.steps // self.evaluate_every) - step // self.evaluate_every


def begin(learner: MetaLearner, state: LearnerState) -> RunState:
    """The state of a run before its first step."""
    theta = jax.tree.map(np.array, jax.device_get(learner.theta(state)))
    best = Best(theta, np.array(np.inf), np.array(-1))
    return RunState(state, best, np.array(-1))


def last_record(state: RunState) -> int:
    """The meta-update of the last histograms in a state, -1 where there are none."""
    return max((row["step"] for row in records(state.learner.meta_opt_state)), default=-1)


@dataclass
class Loop:
    """One process' work on a run.

    score(theta): lower is better. save(step, state): must copy what it keeps. stopped(): asked
    between steps; once true, the loop saves and returns. agree: makes all processes stop and save
    by the clock at the same step.
    """

    curriculum: Curriculum
    plan: Plan
    score: Callable[[Theta], float]
    save: Callable[[int, RunState], None]
    stopped: Callable[[], bool]
    sinks: Sequence[Sink]
    progress: Progress
    agree: Agreement = field(default_factory=Agreement)
    step: int = 0
    _pending: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)
    _busy: float = 0.0  # seconds spent on the pending steps
    _evaluations: list[float] = field(default_factory=list)  # seconds each took
    _stage: int = 0
    _compiled: bool = False  # the first meta-step of this process is made
    _saved: float = 0.0  # time of the last save
    _rejected: int = 0  # meta-steps in a row
    _recorded: int = -1  # meta-update of the last histograms that were handed on

    def run(self, state: RunState) -> RunState:
        """Goes on from `state` to the last step of the plan or to the first request to stop.

        Raises NothingFinite where the plan says to give up.
        """
        self.step = int(state.learner.step)
        self._stage = self.curriculum.stage_of_state(self.step)
        self._recorded = last_record(state)
        saved_step, self._saved = -1, time.monotonic()
        while True:
            wish = self._wish()
            if self._must_evaluate(state) and not wish.stop:
                state = self._evaluate(state)
                wish = self._wish()
            last = self.step >= self.plan.steps or wish.stop
            every = self.plan.save_every
            due = last or wish.save or (every is not None and self.step % every == 0)
            if due and saved_step != self.step:
                self._flush()
                self._histograms(state)
                self.save(self.step, state)
                saved_step, self._saved = self.step, time.monotonic()
            if last:
                return state
            state = state._replace(learner=self._advance(state.learner))
            if self.step % self.plan.log_every == 0:
                self._flush()
            every = self.plan.histograms_every
            if every is not None and self.step % every == 0:
                self._histograms(state)

    def _must_evaluate(self, state: RunState) -> bool:
        return self.plan.evaluates_at(self.step) and int(state.evaluated) != self.step

    def _wish(self) -> Wish:
        limit = self.plan.save_seconds
        overdue = limit is not None and time.monotonic() - self._saved >= limit
        return self.agree(self.step, Wish(self.stopped(), overdue))

    def _advance(self, state: LearnerState) -> LearnerState:
        """One meta-step; returns once the step before is done, so that one is always waiting."""
        if self.curriculum.stage(self.step) != self._stage:
            state = self._enter(state)
        began = time.perf_counter()
        learner, data = self.curriculum.program(self._stage)
        state, metrics = learner.step(state, data)
        self.step += 1
        if self._compiled:
            if self._pending:
                jax.block_until_ready(self._pending[-1][1])
            self._busy += time.perf_counter() - began
            self._pending.append((self.step, metrics))
        else:
            jax.block_until_ready(metrics)
            self._compiled = True
            seconds = time.perf_counter() - began
            self._log(self.step, jax.device_get(metrics), {"time/first_step_seconds": seconds})
            self.curriculum.prepare(self._stage + 1)
        return state

    def _enter(self, state: LearnerState) -> LearnerState:
        """Hands the run to the next stage, however long its program takes to be ready."""
        self._flush()
        began = time.perf_counter()
        self._stage = self.curriculum.stage(self.step)
        learner, data = self.curriculum.program(self._stage)
        state = learner.take_over(state, data)
        self.agree.ask_soon()
        seconds = time.perf_counter() - began
        self.progress.say(f"{self.step}/{self.plan.steps}  stage {self._stage + 1} begins")
        self._log(self.step, {}, {"time/stage_seconds": seconds})
        if self._compiled:
            self.curriculum.prepare(self._stage + 1)
        return state

    @property
    def learner(self) -> MetaLearner:
        """Of the stage at work."""
        return self.curriculum.program(self._stage).learner

    def _flush(self) -> None:
        """Fetches the metrics of all pending steps at once and hands them on."""
        if not self._pending:
            return
        began = time.perf_counter()
        fetched = jax.device_get(self._pending)
        self._busy += time.perf_counter() - began
        rate = len(fetched) / max(self._busy, 1e-9)
        self._pending, self._busy = [], 0.0
        speed = {
            "time/meta_steps_per_second": rate,
            "time/inner_steps_per_second": rate * self.learner.inner_steps,
        }
        for step, metrics in fetched:
            self._log(int(step), metrics, speed if step == fetched[-1][0] else {})
        metrics = {name: float(value) for name, value in fetched[-1][1].items()}
        left = (self.plan.steps - self.step) / rate
        if self._evaluations:
            mean = sum(self._evaluations) / len(self._evaluations)
            left += mean * self.plan.evaluations_after(self.step)
        self.progress.update(self.step, metrics, rate * self.learner.inner_steps, left)

    def _histograms(self, state: RunState) -> None:
        """Hands on what the meta-optimizer has recorded since the last time."""
        rows = records(state.learner.meta_opt_state, self._recorded)
        if rows:
            self._recorded = rows[-1]["step"]
            for sink in self.sinks:
                sink.histograms(rows)

    def _log(self, step: int, metrics: Mapping[str, Any], more: Mapping[str, float]) -> None:
        values = {name: float(value) for name, value in metrics.items()} | dict(more)
        for sink in self.sinks:
            sink.scalars(step, values)
        if "meta/rejected" in values:
            self._rejected = self._rejected + 1 if values["meta/rejected"] else 0
            if self._rejected == self.plan.give_up_after:
                raise NothingFinite(
                    f"meta-step {step}: no finite meta-gradient in {self._rejected} steps in a row "
                    "(give_up_after); tasks/*/rejected in metrics.jsonl says of which tasks"
                )

    def _evaluate(self, state: RunState) -> RunState:
        self._flush()
        began = time.perf_counter()
        theta = jax.tree.map(np.array, jax.device_get(self.learner.theta(state.learner)))
        score = float(self.score(theta))
        seconds = time.perf_counter() - began
        self._evaluations.append(seconds)
        better = score < float(state.best.score)
        if better:
            best = Best(theta, np.array(score), np.array(self.step))
            state = state._replace(best=best)
        self._log(self.step, {}, {"eval/score": score, "time/eval_seconds": seconds})
        note = "the best so far" if better else f"the best is {float(state.best.score):.4g}"
        self.progress.say(f"{self.step}/{self.plan.steps}  selection score {score:.4g}, {note}")
        return state._replace(evaluated=np.array(self.step))
