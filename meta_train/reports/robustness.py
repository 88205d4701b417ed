"""The page of a sweep: a verdict, one figure, and every number in it as a table."""

from html import escape
from pathlib import Path

import numpy as np

from meta_train.evaluation import stats
from meta_train.evaluation.robustness_results import OWN, WORST, Robustness
from meta_train.reports import figures, page
from meta_train.reports.figures import Series
from meta_train.reports.page import Cell
from meta_train.reports.wording import counted, number

MOST_TICKS = 8
SCORE = "final / initial loss"


def write_html(outcome: Robustness, folder: Path) -> Path:
    """Writes robustness_SWEEP.html and says where. Raises MissingExtra without matplotlib."""
    path = folder / f"robustness_{outcome.sweep}.html"
    path.write_text(html(outcome), encoding="utf-8")
    return path


def html(outcome: Robustness) -> str:
    """The page: the same text for the same outcome. Raises MissingExtra without matplotlib."""
    title = f"Robustness: {outcome.axis}"
    sections = [
        f"<h1>{escape(title)}</h1>",
        section(outcome),
        _tables(outcome),
        _curves(outcome),
        page.folded("Settings and environment", _environment(outcome)),
    ]
    return page.page(f"learned-opt: {title}", "\n".join(sections))


def sections(folder: Path) -> list[str]:
    """What the page of an evaluation shows of the sweeps in its folder; nothing without any."""
    return [
        f"<h2>Robustness: {escape(outcome.axis)}</h2>\n{section(outcome)}\n"
        + page.folded("Every number of the figure", _tables(outcome))
        for outcome in _in(folder)
    ]


def redraw(folder: Path) -> list[Path]:
    """Writes the page of every sweep in `folder` again."""
    return [write_html(outcome, folder) for outcome in _in(folder)]


def _in(folder: Path) -> list[Robustness]:
    return [Robustness.load(path) for path in sorted(folder.glob("robustness_*.parquet"))]


def section(outcome: Robustness) -> str:
    """Verdict, summary and figure."""
    return "\n".join(
        [
            f'<p class="verdict">{escape(verdict(outcome))}</p>',
            f'<p class="soft">{escape(outcome.about)} {escape(_setting(outcome))}</p>',
            _summary_table(outcome),
            _keys(outcome),
            _figure(outcome),
            f"<p><small>{SCORE.capitalize()}: training loss above its lower bound at the end of a "
            "run over that at its start, so that 1 is no progress and lower is better; no other "
            "optimizer enters into it. Line: geometric mean of the seeds; band: lowest to highest "
            "seed; ×: some seed diverged. Ratios below 1e-7 count as 1e-7. A diverged run (a loss "
            f"that is not finite, or an end above {WORST:g} times the start) counts as "
            f"{WORST:g}; none is left out.</small></p>",
        ]
    )


def verdict(outcome: Robustness) -> str:
    """How the first optimizer did, in two sentences."""
    about, points = outcome.summaries[0], len(outcome.points)
    runs = outcome.diverged[:, 0].size
    return (
        f"{outcome.optimizers[0]} stays within twice its loss at the reference "
        f"({outcome.points[outcome.reference]}) at {about.near} of {points} points; the worst, "
        f"{about.worst_point}, ends {number(about.spread)} times as high. It ends lowest of all "
        f"in {about.lowest} of {points * len(outcome.tasks)} pairs of a point and a task; "
        f"{about.diverged} of its {runs} runs diverged."
    )


def text(outcome: Robustness) -> str:
    """Final over initial loss at every point, as plain text."""
    rows = [(outcome.axis, *outcome.optimizers)]
    rows += [(point, *map(number, outcome.by_point[p])) for p, point in enumerate(outcome.points)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{t:>{w}}" for t, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([f"{SCORE}, geometric mean of tasks and seeds", *lines])


def _setting(outcome: Robustness) -> str:
    return (
        f"Tasks: {', '.join(outcome.tasks)}; {counted(len(outcome.seeds), 'seed')}; "
        f"{outcome.eval_steps[outcome.reference, -1]} steps at the reference, "
        f"{outcome.points[outcome.reference]}. Optimizers keep their defaults but for what is "
        "swept, and all see the same starts and minibatches."
    )


def _name(outcome: Robustness, optimizer: int) -> str:
    return page.key(optimizer, figures.dashes(optimizer)) + escape(outcome.optimizers[optimizer])


def _keys(outcome: Robustness) -> str:
    names = (f"<span>{_name(outcome, o)}</span>" for o in range(len(outcome.optimizers)))
    return f'<div class="keys">{"".join(names)}</div>'


def _shade(factor: float) -> float:
    """1 and above is ten times lower than the reference, -1 ten times higher."""
    return float(np.clip(-np.log10(factor), -1, 1))


def _summary_table(outcome: Robustness) -> str:
    heads = (
        "optimizer",
        f"at the reference<br>{escape(outcome.points[outcome.reference])}",
        "best",
        "worst",
        "worst / reference",
        "points within<br>2 × reference",
        "lowest of all<br>points × tasks",
        "diverged runs",
    )
    rows = [
        (
            Cell(_name(outcome, o)),
            Cell(number(s.reference), s.reference),
            Cell(f"{number(s.best)} <small>at {escape(s.best_point)}</small>", s.best),
            Cell(f"{number(s.worst)} <small>at {escape(s.worst_point)}</small>", s.worst),
            Cell(number(s.spread), s.spread, shade=_shade(s.spread)),
            f"{s.near} of {len(outcome.points)}",
            f"{s.lowest} of {len(outcome.points) * len(outcome.tasks)}",
            Cell(f"{s.diverged} of {outcome.diverged[:, o].size}", css="failed" * bool(s.diverged)),
        )
        for o, s in enumerate(outcome.summaries)
    ]
    return page.table(heads, rows) + (
        f"<p><small>{SCORE.capitalize()}, geometric mean of tasks and seeds.</small></p>"
    )


def _tables(outcome: Robustness) -> str:
    return "\n".join(_table(outcome, task) for task in range(len(outcome.tasks)))


def _table(outcome: Robustness, task: int) -> str:
    rows = []
    for p, point in enumerate(outcome.points):
        cells = []
        for o in range(len(outcome.optimizers)):
            score = outcome.by_task[p, o, task]
            lost = int(outcome.diverged[p, o, task].sum())
            failed = f"<small>{lost} of {len(outcome.seeds)} diverged</small>" * bool(lost)
            shade = _shade(score / outcome.by_task[outcome.reference, o, task])
            cells.append(Cell(number(score) + failed, score, shade=shade))
        rows.append((escape(point), *cells))
    heads = (escape(outcome.axis), *map(escape, outcome.optimizers))
    return (
        f"<h2>{escape(outcome.tasks[task])}</h2><p>{SCORE.capitalize()}; shaded by how far it is "
        "below (blue) or above (orange) the same optimizer's reference.</p>"
        + page.table(heads, rows, marked=outcome.reference)
    )


def _positions(outcome: Robustness) -> np.ndarray:
    """Where the points stand on the x axis; the one that is no number keeps its distance."""
    apart = outcome.points[0] == OWN
    return np.arange(len(outcome.points)) + apart * (np.arange(len(outcome.points)) > 0)


def _figure(outcome: Robustness) -> str:
    at = _positions(outcome)
    stride = 1 + int(at[-1]) // MOST_TICKS
    ticks = {float(x): name for x, name in zip(at, outcome.points, strict=True) if x % stride == 0}
    drawings = []
    for t, task in enumerate(outcome.tasks):
        lines = []
        for o in range(len(outcome.optimizers)):
            final, middle = outcome.final[:, o, t], outcome.by_task[:, o, t]
            lost = outcome.diverged[:, o, t].any(axis=-1)
            ends = np.stack([at, middle], axis=-1)[lost]
            x, *heights = (at, middle, final.min(axis=-1), final.max(axis=-1))
            if outcome.points[0] == OWN:  # no line leads from it to the numbers
                x, *heights = (np.insert(c.astype(float), 1, np.nan) for c in (x, *heights))
            lines.append(Series(o, x, *heights, ends=ends))
        label = f"{SCORE} of {task} against {outcome.axis}"
        drawings.append(figures.draw(lines, label, SCORE, outcome.axis, whole=True, ticks=ticks))
    return page.figures([escape(task) for task in outcome.tasks], drawings)


def _curves(outcome: Robustness) -> str:
    """Loss over its start along the runs of every point; what the horizon does shows here."""
    finite = np.where(np.isfinite(outcome.curves), outcome.curves, WORST)
    curves = stats.geometric_mean(stats.geometric_mean(finite, 3), 2)  # [point, optimizer, step]
    drawings = []
    for p, point in enumerate(outcome.points):
        lines = [
            Series(o, outcome.eval_steps[p], *(curves[p, o],) * 3)
            for o in range(len(outcome.optimizers))
        ]
        drawings.append(figures.draw(lines, f"learning curves at {point}", "loss / initial loss"))
    captions = [escape(f"{outcome.axis}: {point}") for point in outcome.points]
    about = f"Geometric mean of tasks and seeds; a loss that is not finite counts as {WORST:g}."
    body = f"<p>{about}</p>{_keys(outcome)}" + page.figures(captions, drawings)
    if outcome.sweep == "horizon":
        return "<h2>Learning curves</h2>" + body
    return page.folded("Learning curves", body)


def _environment(outcome: Robustness) -> str:
    about = {"sweep": outcome.sweep, "seeds": ", ".join(map(str, outcome.seeds))}
    return page.facts(about | outcome.versions) + (
        f"<p><small>All numbers on this page come from robustness_{outcome.sweep}.parquet in the "
        "same folder: one row for each point, optimizer, task, seed and step.</small></p>"
    )
