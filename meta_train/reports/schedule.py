"""A recording of hyperparameters to look at: a table in words, a page with a picture of each."""

from html import escape
from pathlib import Path

import numpy as np

from learned_opt.controller.recording import Recording
from meta_train.reports import figures, page
from meta_train.reports.figures import Series
from meta_train.reports.wording import counted

PARTS = ("start", "first", "1/4", "1/2", "3/4", "last")


def text(recording: Recording) -> str:
    """What it is, and the values at six points of a run."""
    rows = [("hyperparameter", *PARTS)]
    rows += [(name, *(f"{x:.3g}" for x in _points(recording, name))) for name in recording.runs]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"{row[0]:<{widths[0]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    return "\n".join([_about(recording), *lines])


def _points(recording: Recording, name: str) -> list[float]:
    """The start and the values in force at the beginning, at quarters and at the end of a run."""
    values, last = recording.values[name], recording.pauses - 1
    places = [min(part * recording.pauses // 4, last) for part in range(5)]
    return [recording.start[name], *(float(values[place]) for place in places)]


def _about(recording: Recording) -> str:
    by = f" under {recording.controller}" if recording.controller else ""
    return (
        f"{recording.inner}{by} on {recording.source}: {counted(recording.seeds, 'run')} of "
        f"{recording.num_steps} updates, {counted(recording.pauses, 'pause')}"
    )


def html(recording: Recording) -> str:
    """The page: the same text for the same recording. Raises MissingExtra without matplotlib."""
    title = f"Schedule recorded on {recording.source}"
    names = list(recording.runs)
    pictures = [_picture(recording, name) for name in names]
    rows = [
        [escape(name), *(f"{x:.4g}" for x in _points(recording, name))] for name in recording.runs
    ]
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(_about(recording))}</p>',
        page.figures([escape(name) for name in names], pictures),
        "<p><small>Line: the geometric mean of the runs (of logits the arithmetic one), in force "
        "from pause to pause; band: lowest to highest run; dashed: the value before the first "
        "pause.</small></p>",
        page.table(["hyperparameter", *PARTS], rows),
    ]
    return page.page(f"learned-opt: {title}", "\n".join(body))


def write_html(recording: Recording, path: Path) -> Path:
    """Writes the page and says where. Raises MissingExtra without matplotlib."""
    path.write_text(html(recording), encoding="utf-8")
    return path


def _picture(recording: Recording, name: str) -> str:
    """Values over the progress of a run, as stairs."""
    edges = np.arange(recording.pauses + 1) / recording.pauses
    x = np.repeat(edges, 2)[1:-1]
    runs = np.array(recording.runs[name])
    stairs = lambda values: np.repeat(values, 2)
    start = np.full(len(x), recording.start[name])
    lines = [
        Series(None, x, start, start, start),
        Series(
            0, x, stairs(recording.values[name]), stairs(runs.min(axis=0)), stairs(runs.max(axis=0))
        ),
    ]
    label = f"{name} over the progress of a run"
    return figures.draw(lines, label, name, x_label="progress", whole=True)
