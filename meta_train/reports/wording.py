"""Scores in words and figures, alike in the terminal and on the page."""

import numpy as np

from meta_train.evaluation import stats
from meta_train.evaluation.results import Report
from meta_train.evaluation.stats import Interval


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
    yardstick, subject = report.optimizers[report.yardstick], report.subject
    if subject == report.yardstick:
        return f"{yardstick} ran alone: there is nothing to compare it with."
    v = report.verdicts[subject]
    name, whole = report.optimizers[subject], compared(report)
    failures = f"; {v.diverged} of {report.diverged[subject].size} runs diverged" * bool(v.diverged)
    first = f"{name} reaches {yardstick}{tried(report, yardstick)}, on {v.reached} of "
    first += counted(whole, "task")
    first += f" and does not on {v.failed}" * bool(v.failed)
    parts = [first + failures, *_ends(report), *_speed(report), *_validation(report)]
    return ". ".join(parts) + "."


def _ends(report: Report) -> list[str]:
    v = report.verdicts[report.subject]
    if np.isnan(v.ratio):
        return []
    ratios = stats.geometric_mean(report.scores.ratio[report.subject])
    worst = report.tasks[int(np.nanargmax(ratios))]
    return [
        f"Its final training loss is {times(v.ratio)} that of the yardstick in the median of the "
        f"tasks, {times(v.worst_ratio)} at the worst, on {worst}"
    ]


def _speed(report: Report) -> list[str]:
    v = report.verdicts[report.subject]
    if not np.isfinite(v.speedup):
        return []
    low, high = v.speedup_interval
    clear = "faster" if low > 1 else "slower" if high < 1 else "not told apart"
    clock = f"about {times(v.wall_clock_speedup)} by the clock"
    return [
        f"Its speed is {times(v.speedup)} counted in steps (95% interval for new tasks "
        f"{interval(v.speedup_interval)}: {clear}), {clock}"
    ]


def _validation(report: Report) -> list[str]:
    found = report.validation
    if found is None or not found.compared:
        return []
    median = found.median(report.subject)
    return [
        f"Its validation loss is at most 2% above the yardstick's on "
        f"{found.close(report.subject)} of {counted(found.compared, 'task')}"
        + f", {times(median)} in the median"
        * bool(np.isfinite(median))
    ]


def timing(report: Report) -> str:
    """How far times per step are to be trusted."""
    spread = report.timing_spread
    return "Times are rough: every run was timed once, under whatever load the machine had" + (
        f"; the slowest trial of one program took {times(spread)} as long as the fastest, for the "
        "same work."
        if np.isfinite(spread)
        else "."
    )


def final_text(losses: np.ndarray, diverged: np.ndarray) -> str:
    """Mean over the seeds that did not diverge; a star where some did. Both [seed]."""
    if diverged.all():
        return "diverged"
    return number(mean_of(losses, diverged)) + "*" * bool(diverged.any())


def mean_of(values: np.ndarray, diverged: np.ndarray) -> float:
    """Mean over the seeds that did not diverge; NaN where none is left."""
    return float(values[~diverged].mean()) if not diverged.all() else float("nan")
