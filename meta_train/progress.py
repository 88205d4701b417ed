"""What a person watching a run sees: one live line on a terminal, plain lines in a file."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from io import TextIOBase
from typing import TextIO

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_REDRAWS = 0.2
LEAST_KNOWN = 0.01  # of the work; before that a forecast misleads


class Progress:
    """Prints to `stream`: rewrites one line on a terminal, else adds a line every few seconds."""

    def __init__(
        self,
        stream: TextIO | TextIOBase,
        steps: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream, self._steps, self._clock = stream, steps, clock
        self._live = stream.isatty()
        self._shown = -float("inf")  # time of the last line
        self._waiting = ""  # the newest line when it is not shown yet

    def update(
        self, step: int, metrics: Mapping[str, float], inner_rate: float, seconds_left: float
    ) -> None:
        """metrics: of the latest meta-step. inner_rate: inner steps per second."""
        losses = [f"meta {metrics['meta/loss']:.4g}"] if "meta/loss" in metrics else []
        for name, value in metrics.items():
            if name.startswith("tasks/") and name.endswith("/objective"):
                losses.append(f"{name.split('/')[1]} {value:.4g}")
        left = f"{duration(seconds_left)} left"
        parts = [f"{step}/{self._steps}", *losses, f"{inner_rate:,.0f} inner steps/s", left]
        self._waiting = "  ".join(parts)
        between = SECONDS_BETWEEN_REDRAWS if self._live else SECONDS_BETWEEN_LINES
        if self._clock() - self._shown >= between:
            self._show()

    def say(self, line: str) -> None:
        """A line that stays."""
        self._write(("\r\x1b[2K" if self._live else "") + line + "\n")

    def close(self) -> None:
        if self._waiting:
            self._show()
        if self._live and self._shown > -float("inf"):
            self._write("\n")

    def _show(self) -> None:
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            self._write("\r\x1b[2K" + self._waiting[:width])
        else:
            self._write(self._waiting + "\n")
        self._shown, self._waiting = self._clock(), ""

    def _write(self, text: str) -> None:
        # A reader that went away, as in `| head`, is no reason to end a run.
        with suppress(OSError):
            self._stream.write(text)
            self._stream.flush()


class Countdown:
    """Says how many tasks of an evaluation are done and left, and how long the rest may take."""

    def __init__(
        self,
        say: Callable[[str], None],
        tasks: int,
        todo: Sequence[tuple[int, float]],
        programs: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """todo: for each task that is not done yet its runs, and what one of them costs.

        programs: to compile, before and between the runs. Costs need no unit.
        """
        self._say, self._clock = say, clock
        self._tasks, self._tasks_done = tasks, tasks - len(todo)
        self._programs, self._programs_done = programs, 0
        self._runs, self._runs_done = sum(runs for runs, _ in todo), 0
        self._cost, self._cost_done = sum(runs * cost for runs, cost in todo), 0.0
        self._running = self._compiling = 0.0  # seconds
        self._began, self._said = clock(), -float("inf")
        if self._tasks_done:
            say(f"{self._tasks_done} of {tasks} tasks are in the cache")
        if todo:
            say(f"{self._runs} run(s) to go; compiling {programs} program(s)")

    def compiled(self, programs: int) -> None:
        """So many more than before."""
        self._programs_done += programs
        self._compiling = self._clock() - self._began - self._running
        self._now_and_then(f"compiled {self._programs_done}/{self._programs} programs")

    def ran(self, runs: int, cost: float, seconds: float) -> None:
        """So many more runs, of which all together cost so much and took so long."""
        self._runs_done += runs
        self._cost_done += cost
        self._running += seconds
        self._now_and_then(f"{self._runs_done}/{self._runs} runs")

    def finish(self, task: str) -> None:
        self._tasks_done += 1
        self._said = -float("inf")
        left = self._tasks - self._tasks_done
        self._now_and_then(f"{task}: {self._tasks_done}/{self._tasks} tasks done, {left} to go")

    def _now_and_then(self, line: str) -> None:
        now = self._clock()
        if now - self._said >= SECONDS_BETWEEN_LINES:
            self._said = now
            self._say(line + self._left())

    def _left(self) -> str:
        if self._cost_done < LEAST_KNOWN * self._cost or self._runs_done == self._runs:
            return ""
        running = self._running * (self._cost / self._cost_done - 1.0)
        compiling = self._compiling * (self._programs / self._programs_done - 1.0)
        return f", about {duration(running + compiling)} left"


def duration(seconds: float) -> str:
    """12s, 3m05s, 2h07m."""
    seconds = round(max(0.0, seconds))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
