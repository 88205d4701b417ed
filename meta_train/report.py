"""A report people read: a table for the terminal and one self-contained HTML page."""

from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from meta_train import figures, page, stats
from meta_train.figures import MissingExtra, Series
from meta_train.page import Cell
from meta_train.results import Report

__all__ = ["MissingExtra", "html", "table", "write_html"]


def number(value: float) -> str:
    """Three significant digits, whole thousands in full; a dash for what is undefined."""
    if not np.isfinite(value):
        return "–"
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"


def _times(value: float) -> str:
    if not np.isfinite(value):
        return "–"
    digits = ".2f" if value < 100 else ".0f" if value < 1e4 else ".1e"
    return f"{value:{digits}}×"


def table(report: Report) -> str:
    """The verdicts and the final training losses as plain text."""
    yardstick = report.optimizers[report.yardstick]
    heads = ("optimizer", "loss ratio", "speedup", "95% interval", "reached", "diverged", "cost")
    rows = [
        (
            name,
            _times(v.ratio).rstrip("×"),
            _times(v.speedup).rstrip("×"),
            f"{v.speedup_interval.low:.2f} .. {v.speedup_interval.high:.2f}",
            f"{v.reached}/{_compared(report)}",
            f"{v.diverged}/{report.diverged[0].size}",
            f"{v.cost:.2f}",
        )
        for name, v in zip(report.optimizers, report.verdicts, strict=True)
    ]
    finals = [
        (task, *(_final_text(report, o, t) for o in range(len(report.optimizers))))
        for t, task in enumerate(report.tasks)
    ]
    return "\n\n".join(
        [
            f"suite {report.suite}: {_setting(report)}; against {yardstick}",
            _plain((heads, *rows)) + f"\n{_left_out(report)}".rstrip(),
            "final training loss (mean of seeds; * some seeds diverged)",
            _plain((("task", *report.optimizers), *finals)),
        ]
    )


def _plain(rows: tuple[tuple[str, ...], ...]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *rest = (f"{text:>{width}}" for text, width in zip(row, widths, strict=True))
        lines.append("  ".join((f"{first.strip():<{widths[0]}}", *rest)).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(lines)


def _setting(report: Report) -> str:
    seeds = len(report.seeds)
    return (
        f"{len(report.tasks)} task{'s' * (len(report.tasks) != 1)}, "
        f"{report.eval_steps[-1]} steps, {seeds} seed{'s' * (seeds != 1)}"
    )


def _compared(report: Report) -> int:
    """Tasks where the yardstick did not diverge with every seed."""
    return int((~report.diverged[report.yardstick]).any(axis=1).sum())


def _left_out(report: Report) -> str:
    """One sentence where the yardstick diverged, which leaves its scores undefined; else none."""
    undefined = report.verdicts[report.yardstick].undefined
    if not undefined:
        return ""
    yardstick = report.optimizers[report.yardstick]
    return (
        f"{yardstick} diverged in {undefined} of {report.diverged[0].size} runs: ratio, speedup "
        "and tasks reached leave these out for all."
    )


def _mean_final(losses: np.ndarray, diverged: np.ndarray) -> float:
    """Mean final loss of the runs that did not diverge; NaN where none is left."""
    return float(losses[~diverged, -1].mean()) if not diverged.all() else float("nan")


def _final_text(report: Report, optimizer: int, task: int) -> str:
    diverged = report.diverged[optimizer, task]
    if diverged.all():
        return "diverged"
    mean = _mean_final(report.train_loss[optimizer, task], diverged)
    return number(mean) + "*" * bool(diverged.any())


def write_html(report: Report, folder: str | Path) -> Path:
    """Writes report.html and says where. Raises MissingExtra without matplotlib."""
    text = html(report)
    path = Path(folder) / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def html(report: Report) -> str:
    """The page: the same text for the same report. Raises MissingExtra without matplotlib."""
    yardstick = escape(report.optimizers[report.yardstick])
    sections = [
        f"<h1>Optimizers on {escape(report.suite)}</h1>",
        f'<p class="soft">{escape(_setting(report))}. Every optimizer starts from the same '
        f"parameters and sees the same minibatches. Yardstick: {yardstick}.</p>",
        _verdict_section(report),
        f"<h2>Speedup over {yardstick}, task by task</h2>",
        _speedup_table(report),
        "<h2>Final training loss</h2>",
        _loss_table(report, report.train_loss, scored=True),
        "<h2>Learning curves</h2>",
        "<p>Training loss on the whole split. Line: geometric mean of the seeds (median where the "
        "loss has no lower bound); band: lowest to highest seed; ×: a run that diverged. Where a "
        "task declares a lower bound, the loss above it is drawn.</p>",
        _keys(report),
        _curves(report, report.train_loss, "training"),
        page.folded(
            "Test loss",
            _loss_table(report, report.test_loss, scored=False)
            + _keys(report)
            + _curves(report, report.test_loss, "test"),
        ),
        "<h2>Tuned baselines: what was tried</h2>",
        _grids(report),
        page.folded("Time per step", _times_table(report)),
        page.folded("Settings and environment", _environment(report)),
    ]
    return page.page(f"learned-opt: {report.suite}", "\n".join(sections))


def _style(report: Report, optimizer: int) -> int | None:
    """Number of the colour: by order, the yardstick has none."""
    if optimizer == report.yardstick:
        return None
    return optimizer - (optimizer > report.yardstick)


def _name(report: Report, optimizer: int) -> str:
    style = _style(report, optimizer)
    return page.key(style, figures.dashes(style)) + escape(report.optimizers[optimizer])


def _keys(report: Report) -> str:
    names = (f"<span>{_name(report, o)}</span>" for o in range(len(report.optimizers)))
    return f'<div class="keys">{"".join(names)}</div>'


def _shade(factor: float) -> float:
    """1 and above is four times better than the yardstick, -1 four times worse."""
    if np.isnan(factor):
        return 0.0
    return float(np.clip(np.log(factor) / np.log(4.0), -1, 1)) if factor > 0 else -1.0


def _verdict_section(report: Report) -> str:
    yardstick = escape(report.optimizers[report.yardstick])
    heads = (
        "optimizer",
        "final loss ratio<br>median of tasks",
        "speedup<br>IQM",
        "95% interval",
        f"tasks that reach<br>{yardstick}",
        "diverged runs",
        "time per step<br>relative",
    )
    rows = []
    for o, v in enumerate(report.verdicts):
        rows.append(
            (
                Cell(_name(report, o)),
                Cell(_times(v.ratio), v.ratio, shade=_shade(1 / v.ratio)),
                Cell(_times(v.speedup), v.speedup, shade=_shade(v.speedup)),
                f"{v.speedup_interval.low:.2f} – {v.speedup_interval.high:.2f}",
                f"{v.reached} of {_compared(report)}",
                Cell(f"{v.diverged} of {report.diverged[o].size}", css="failed" * bool(v.diverged)),
                _times(v.cost),
            )
        )
    tuned = report.grids.get(report.optimizers[report.yardstick])
    grid = f", the best of {len(tuned.trials)} trials for each task" if tuned else ""
    return (
        page.table(heads, rows, marked=report.yardstick)
        + (f"<p>{escape(left_out)}</p>" if (left_out := _left_out(report)) else "")
        + "<p><small>Final loss ratio: training loss above the lower bound over that of "
        f"{yardstick}{grid}; geometric mean of the seeds, median of the tasks; below 1 is better. "
        "Speedup: steps of the run over the first step at which the smoothed training loss "
        "(moving average over a twentieth of the run) is down to the final one of "
        f"{yardstick} with the same seed, 0 if never; interquartile mean over tasks and seeds. "
        "Interval: bootstrap that resamples tasks, and seeds within each. A task is reached when "
        "at least half of its seeds get there. A diverged run (a loss that is not finite, or an "
        "end above ten times the start) scores 0 and ten times its start; none is left out "
        "unless the yardstick's own diverged. "
        "Time per step: wall time of whole runs, many computed together, so it tells little about "
        "one large network.</small></p>"
    )


def _speedup_table(report: Report) -> str:
    rows = []
    for t, task in enumerate(report.tasks):
        cells = []
        for o in range(len(report.optimizers)):
            speedup = report.scores.speedup[o, t]
            speedup = speedup[~np.isnan(speedup)]
            mean = float(speedup.mean()) if speedup.size else float("nan")
            missed = int((speedup == 0).sum())
            text = _times(mean) if mean else "never"
            if 0 < missed < speedup.size:
                text += f"<small>{missed} of {speedup.size} never</small>"
            shade = 0.0 if o == report.yardstick else _shade(mean)
            cells.append(Cell(text, mean, "failed" if not mean else "", shade))
        rows.append((escape(task), *cells))
    return page.table(("task", *map(escape, report.optimizers)), rows, sortable=True)


def _loss_table(report: Report, losses: np.ndarray, scored: bool) -> str:
    """Final losses; `scored` adds the ratio to the yardstick and sorts by it."""
    ratio = stats.geometric_mean(report.scores.ratio)
    rows = []
    for t, task in enumerate(report.tasks):
        finals = [
            _mean_final(losses[o, t], report.diverged[o, t]) for o in range(len(report.optimizers))
        ]
        best = min((final for final in finals if np.isfinite(final)), default=None)
        cells = []
        for o, final in enumerate(finals):
            diverged = int(report.diverged[o, t].sum())
            text = "diverged" if diverged == len(report.seeds) else number(final)
            if 0 < diverged < len(report.seeds):
                text += f"<small>{diverged} of {len(report.seeds)} diverged</small>"
            css = "failed" * bool(diverged) or "best" * bool(final == best)
            value, shade = final, 0.0
            if scored and np.isfinite(ratio[o, t]):
                value, shade = ratio[o, t], _shade(1 / ratio[o, t])
                if o != report.yardstick:
                    text += f"<small>{_times(ratio[o, t])}</small>"
            cells.append(Cell(text, value, css, shade))
        rows.append((escape(task), *cells))
    heads = ("task", *map(escape, report.optimizers))
    return page.table(heads, rows, sortable=True)


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
        style=_style(report, optimizer),
        x=np.asarray(report.eval_steps, float),
        middle=np.where(whole, middle, np.nan),
        low=np.where(whole, kept.min(axis=0), np.nan),
        high=np.where(whole, kept.max(axis=0), np.nan),
        ends=np.asarray(ends).reshape(-1, 2),
    )


def _curves(report: Report, losses: np.ndarray, split: str) -> str:
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
    return page.figures(captions, drawings)


def _grids(report: Report) -> str:
    if not report.grids:
        return "<p>None: every optimizer ran with one setting for all tasks.</p>"
    parts = [
        "<p>Mean final training loss of each trial; the one taken is bold. The choice is "
        "made on the seeds that are reported, which favours these baselines a little.</p>"
    ]
    for name, grid in report.grids.items():
        rows = []
        for task, chosen, finals in zip(report.tasks, grid.chosen, grid.final_loss, strict=True):
            cells = [
                Cell("diverged" if final is None else number(final), css="best" * (n == chosen))
                for n, final in enumerate(finals)
            ]
            rows.append((escape(task), *cells))
        heads = (escape(name), *(_trial(trial) for trial in grid.trials))
        parts.append(page.table(heads, rows))
    return "\n".join(parts)


def _trial(hyperparameters: dict[str, Any]) -> str:
    """What a trial set; a lone learning rate needs no name."""
    texts = {k: f"{v:.3g}" if isinstance(v, float) else str(v) for k, v in hyperparameters.items()}
    if list(texts) == ["learning_rate"]:
        return texts["learning_rate"]
    return "<br>".join(f"{escape(name)} {escape(text)}" for name, text in texts.items())


def _times_table(report: Report) -> str:
    rows = [
        (escape(task), *(f"{1e6 * seconds:.3g}" for seconds in report.seconds_per_step[:, t]))
        for t, task in enumerate(report.tasks)
    ]
    return (
        "<p>Microseconds for one step of one run: gradient, update and measurements. Optimizers "
        "that share their code ran as one program and share its time.</p>"
        + page.table(("task", *map(escape, report.optimizers)), rows, sortable=True)
    )


def _environment(report: Report) -> str:
    about = {
        "suite": report.suite,
        "suite fingerprint": report.fingerprint or "none",
        "seeds": ", ".join(map(str, report.seeds)),
    }
    about |= {name: str(value) for name, value in (report.settings | report.versions).items()}
    return page.facts(about) + (
        "<p><small>All numbers on this page come from results.parquet in the same folder: one row "
        "for each optimizer, task, seed and step.</small></p>"
    )
