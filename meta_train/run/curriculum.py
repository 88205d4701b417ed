"""Which learner makes which meta-step; the next is built and compiled while one is at work."""

import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax

from meta_train.learners.base import MetaLearner

_THREAD = "compiles the next stage"


def compiling() -> bool:
    """Whether a stage is being compiled in the background."""
    return any(thread.name == _THREAD for thread in threading.enumerate())


class Program(NamedTuple):
    learner: MetaLearner
    data: Any


class Curriculum:
    """The learners of a run's stages.

    starts: meta-steps made before each stage begins, rising from 0. build: the learner of a stage
    by its number. A stage takes over right before the first meta-step it makes, whether its program
    was ready or had to be waited for, so that a resumed run is the same run.
    """

    def __init__(self, starts: Sequence[int], build: Callable[[int], MetaLearner]) -> None:
        self._starts, self._build = tuple(starts), build
        self._programs: dict[int, Future[Program]] = {}

    def stage(self, step: int) -> int:
        """The number of the stage that makes the meta-step after `step` others."""
        return bisect_right(self._starts, step) - 1

    def stage_of_state(self, step: int) -> int:
        """The number of the stage whose tasks are in the state after `step` meta-steps."""
        return self.stage(max(step - 1, 0))

    def program(self, stage: int) -> Program:
        """The learner and the data of a stage; those of other stages but the next are let go.

        Raises what building it raises, as ConfigError or MissingData.
        """
        self._programs = {n: f for n, f in self._programs.items() if n in (stage, stage + 1)}
        if stage not in self._programs:
            self._programs[stage] = Future()
            self._fill(self._programs[stage], stage, compiled=False)
        return self._programs[stage].result()

    def prepare(self, stage: int) -> None:
        """Begins to build and compile a stage in the background, if there is such a stage.

        Not with several processes: all that they run must begin in one order.
        """
        if jax.process_count() > 1:
            return
        if stage < len(self._starts) and stage not in self._programs:
            future = self._programs[stage] = Future()
            # A daemon, for a compilation cannot be cancelled and must not hold up the end.
            args = (future, stage, True)
            threading.Thread(target=self._fill, name=_THREAD, args=args, daemon=True).start()

    def _fill(self, future: Future[Program], stage: int, compiled: bool) -> None:
        try:
            learner = self._build(stage)
            data = learner.load()
            if compiled:
                learner.prepare(data)
            future.set_result(Program(learner, data))
        except BaseException as error:
            future.set_exception(error)
