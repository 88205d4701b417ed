"""The figures of an evaluation's page: learning curves, profiles, budgets."""

from collections.abc import Sequence
from html import escape

import numpy as np

from meta_train.evaluation import stats
from meta_train.evaluation.results import Report
from meta_train.evaluation.scores.profiles import AREA_END, run_profile, task_profile, time_ratios
from meta_train.reports import figures, page
from meta_train.reports.evaluation_tables import keys, style
from meta_train.reports.figures import Series

RUN_THRESHOLDS = np.geomspace(0.1, 10.0, 81)
TASK_THRESHOLDS = np.linspace(1.0, AREA_END, 121)


def curves(report: Report, losses: np.ndarray, split: str) -> str:
    """One card for each task."""
    captions, drawings = [], []
    for t, task in enumerate(report.tasks):
        bound = report.lower_bound[t]
        above = bool(np.isfinite(bound).all() and (bound != 0).any())
        order = [o for o in range(len(report.optimizers)) if o != report.yardstick]
        lines = [_series(report, losses, o, t) for o in (*order, report.yardstick)]
        captions.append(escape(task))
        drawings.append(
            figures.draw(
                lines,
                label=f"{split} loss on {task}",
                y_label=f"{split} loss{' above its bound' if above else ''}",
            )
        )
    return keys(report) + page.figures(captions, drawings)


def _series(report: Report, losses: np.ndarray, optimizer: int, task: int) -> Series:
    runs = losses[optimizer, task]
    bound = report.lower_bound[task]
    with np.errstate(invalid="ignore"):
        height = stats.excess(runs, bound)
    finite = np.isfinite(height)
    whole = finite.all(axis=0)
    kept = np.where(whole, height, 1.0)
    bounded = bool(np.isfinite(bound).all())
    middle = np.exp(np.log(kept).mean(axis=0)) if bounded else np.median(kept, axis=0)
    ends = []
    for run, failed in zip(height, report.diverged[optimizer, task], strict=True):
        seen = np.flatnonzero(np.isfinite(run))
        if failed and seen.size:
            ends.append((report.eval_steps[seen[-1]], run[seen[-1]]))
    return Series(
        style=style(report, optimizer),
        x=np.asarray(report.eval_steps, float),
        middle=np.where(whole, middle, np.nan),
        low=np.where(whole, kept.min(axis=0), np.nan),
        high=np.where(whole, kept.max(axis=0), np.nan),
        ends=np.asarray(ends).reshape(-1, 2),
    )


def profiles(report: Report) -> str:
    """Of runs by speedup; of tasks by time, in steps and in seconds."""
    order = range(len(report.optimizers))
    of_runs = [run_profile(report.scores.speedup[o], RUN_THRESHOLDS) for o in order]
    lines = [Series(style(report, o), RUN_THRESHOLDS, *of_runs[o]) for o in order]
    yardstick = report.optimizers[report.yardstick]
    drawings = [
        figures.draw_profile(
            lines,
            f"part of the runs by speedup over {yardstick}",
            f"speedup over {yardstick}",
            "part of the runs above",
            log=True,
        )
    ]
    steps = report.scores.steps
    for unit, times in (
        ("steps", steps),
        ("seconds", steps * report.seconds_per_step[..., None]),
    ):
        parts = task_profile(time_ratios(times), TASK_THRESHOLDS)
        lines = [Series(style(report, o), TASK_THRESHOLDS, *[parts[o]] * 3) for o in order]
        drawings.append(
            figures.draw_profile(
                lines,
                f"part of the tasks solved, by {unit} over those of the fastest",
                f"{unit} over those of the fastest",
                "part of the tasks solved",
            )
        )
    captions = ["Runs, by speedup", "Tasks, by steps", "Tasks, by seconds"]
    return keys(report) + page.figures(captions, drawings)


def budgets(reports: Sequence[Report]) -> str:
    """Box plots over tasks of what one setting and more trials reach, a card for each report."""
    captions, drawings = [], []
    for report in reports:
        styles = {name: style(report, o) for o, name in enumerate(report.optimizers)}
        rows = [
            (budget.name, styles[budget.optimizer], budget.ratio)
            for budget in report.budgets
            if budget.ratio.size
        ]
        if rows:
            x_label = f"final training loss over that of {report.optimizers[report.yardstick]}"
            label = f"{x_label} on {report.suite}, by budget"
            captions.append(f"{escape(report.suite)}: lower is better")
            drawings.append(figures.draw_boxes(rows, label, x_label, 1.0))
    return page.figures(captions, drawings, wide=True) if drawings else ""
