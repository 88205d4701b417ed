"""Scores in words and figures, alike in the terminal and on the page."""

import numpy as np

from meta_train.results import Report
from meta_train.stats import Interval


def number(value: float) -> str:
    """Three significant digits, whole thousands in full; a dash for what is undefined."""
    if not np.isfinite(value):
        return "–"
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"


def times(value: float) -> str:
    """A factor; a dash for what is undefined."""
    if not np.isfinite(value):
        return "–"
    digits = ".2f" if value < 100 else ".0f" if value < 1e4 else ".1e"
    return f"{value:{digits}}×"


def interval(ends: Interval, between: str = " to ") -> str:
    if not np.isfinite(ends).all():
        return "–"
    return between.join(f"{end:.2f}" if end < 1e4 else f"{end:.1e}" for end in ends)


def chance(p: float) -> str:
    """A p-value."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def setting(report: Report) -> str:
    return ", ".join(
        (
            counted(len(report.tasks), "task"),
            counted(report.eval_steps[-1], "step"),
            counted(len(report.seeds), "seed"),
        )
    )


def compared(report: Report) -> int:
    """Tasks where the yardstick did not diverge with every seed."""
    return int((~report.diverged[report.yardstick]).any(axis=1).sum())


def tried(report: Report, name: str) -> str:
    """How a tuned entry was tuned; nothing for the others."""
    grid = report.grids.get(name)
    return f", the best of {len(grid.trials)} trials for each task" if grid else ""


def left_out(report: Report) -> str:
    """One sentence where the yardstick diverged, which leaves its scores undefined; else none."""
    undefined = report.verdicts[report.yardstick].undefined
    if not undefined:
        return ""
    yardstick = report.optimizers[report.yardstick]
    return (
        f"{yardstick} diverged in {undefined} of {report.diverged[0].size} runs: ratio, speedup "
        "and tasks reached leave these out for all."
    )


def headline(report: Report) -> str:
    """The verdict on the optimizer looked at."""
    names, yardstick, subject = report.optimizers, report.yardstick, report.subject
    if subject == yardstick:
        return f"{names[yardstick]} ran alone: there is nothing to compare it with."
    v = report.verdicts[subject]
    failures = f"{v.diverged} of {report.diverged[subject].size} runs diverged"
    first = f"{names[subject]}: {failures if v.diverged else 'no run diverged'}; it reaches "
    first += f"{names[yardstick]}{tried(report, names[yardstick])}, on {v.reached} of "
    first += counted(compared(report), "task")
    if not np.isfinite(v.speedup):
        return first + "."
    low, high = v.speedup_interval
    clear = "faster" if low > 1 else "slower" if high < 1 else "not told apart from it"
    clock = f", {times(v.wall_clock_speedup)} by the clock" if v.wall_clock_speedup else ""
    return (
        f"{first}, at {times(v.speedup)} its speed counted in steps (95% interval for new tasks "
        f"{interval(v.speedup_interval)}: {clear}){clock}, and ends at {times(v.ratio)} its "
        "training loss."
    )


def final_text(report: Report, optimizer: int, task: int) -> str:
    """Mean final training loss of the runs that did not diverge; a star where some did."""
    diverged = report.diverged[optimizer, task]
    if diverged.all():
        return "diverged"
    mean = mean_of(report.train_loss[optimizer, task, :, -1], diverged)
    return number(mean) + "*" * bool(diverged.any())


def mean_of(values: np.ndarray, diverged: np.ndarray) -> float:
    """Mean over the seeds that did not diverge; NaN where none is left."""
    return float(values[~diverged].mean()) if not diverged.all() else float("nan")
