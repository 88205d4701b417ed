"""Figures as inline SVG that takes its colours and fonts from the page around it."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

SIZE = (3.5, 2.5)  # inches
BOXES = (4.6, 0.8, 0.22)  # width, height without rows, height of a row
DASHES = ("", "", "", "", "5 2", "5 2", "5 2", "5 2", "1.5 1.5", "1.5 1.5")
# Colours that stand for the page's: matplotlib reads no CSS, so they are replaced afterwards.
INK, GRID = "#fd0000", "#fd0001"
PLACEHOLDERS = {INK: "currentColor", GRID: "var(--line)"} | {
    f"#fe00{n:02x}": f"var(--c{n})" for n in range(len(DASHES))
}


class MissingExtra(Exception):
    """An optional package is not installed; the message is one line that says what to do."""


class Series(NamedTuple):
    """One line with its band. Values that are not finite are left out."""

    style: int | None  # number of the page's colour, modulo ten; None: the text's, dashed
    x: np.ndarray  # [point]
    middle: np.ndarray  # [point]
    low: np.ndarray  # [point]
    high: np.ndarray  # [point]
    ends: np.ndarray = np.zeros((0, 2))  # [run, (x, y)] where a run diverged


def dashes(style: int | None) -> str:
    """The stroke-dasharray of a series."""
    return "6 2 1.5 2" if style is None else DASHES[style % len(DASHES)]


def _colour(style: int | None) -> str:
    return INK if style is None else f"#fe00{style % len(DASHES):02x}"


def _ticks(axis: Any, low: float, high: float) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    decades = np.log10(high / low)
    if decades < 0.7:
        axis.set_major_locator(MaxNLocator(4))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,), numticks=6))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))


def _limits(lines: Sequence[Series], log: bool, whole: bool) -> tuple[float, float] | None:
    """The range of the middles, so that a run that explodes does not flatten the others.

    whole: that of everything instead.
    """
    values = np.concatenate([line.middle for line in lines])
    if whole:
        values = np.concatenate([part for line in lines for part in (line.low, line.high)])
    starts = (
        [] if whole else [line.middle[0] for line in lines if np.isfinite(line.middle[:1]).all()]
    )
    keep = np.isfinite(values) & (values <= 3.0 * max(starts, default=np.inf))
    values = values[keep & (values > 0)] if log else values[keep if log else np.isfinite(values)]
    if not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    if log:
        margin = max((high / low) ** 0.06, 1.02)
        return low / margin, high * margin
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def draw(
    lines: Sequence[Series],
    label: str,
    y_label: str,
    x_label: str = "step",
    whole: bool = False,
    ticks: Mapping[float, str] | None = None,
) -> str:
    """One <svg>: the same bytes for the same input. Logarithmic where all values are positive.

    label: what a screen reader says. whole: show all of the bands, not only what stays near or
    below the start. ticks: position -> name on the x axis; every value is then marked by a dot.
    Raises MissingExtra without matplotlib.
    """
    log = all((line.middle[np.isfinite(line.middle)] > 0).all() for line in lines)

    def paint(axes: Any) -> None:
        axes.set(xlabel=x_label, ylabel=y_label)
        for line in lines:
            _plot(axes, line, "." if ticks else "")
        if ticks:
            axes.set_xticks(list(ticks), ticks.values())
        limits = _limits(lines, log, whole)
        if limits is not None:
            if log:
                axes.set_yscale("log")
                _ticks(axes.yaxis, *limits)
            axes.set_ylim(*limits)
        axes.margins(x=0.02)

    return _svg(label, SIZE, paint)


def draw_profile(
    lines: Sequence[Series], label: str, x_label: str, y_label: str, log: bool = False
) -> str:
    """One <svg> of parts between 0 and 1; log: of the x axis. See `draw`."""

    def paint(axes: Any) -> None:
        axes.set(xlabel=x_label, ylabel=y_label, ylim=(-0.03, 1.03))
        for line in lines:
            _plot(axes, line)
        if log:
            axes.set_xscale("log")
            _ticks(axes.xaxis, lines[0].x[0], lines[0].x[-1])
        axes.margins(x=0.0)

    return _svg(label, SIZE, paint)


def draw_boxes(
    rows: Sequence[tuple[str, int | None, np.ndarray]], label: str, x_label: str, middle: float
) -> str:
    """One <svg> of a box for each row, top down: its name, style and positive values; see `draw`.

    The box is the middle half with the median, the whiskers reach to the ends; every value is a
    dot. middle: where a line is drawn.
    """
    values = np.concatenate([row[2] for row in rows])
    ends = float(values.min() / 1.3), float(values.max() * 1.3)

    def paint(axes: Any) -> None:
        axes.set(xscale="log", xlim=ends, ylim=(len(rows) - 0.4, -0.6))
        axes.figure.supxlabel(x_label, fontsize="medium")  # centred below the names too
        axes.axvline(middle, color=INK, linewidth=1.0)
        axes.grid(False, axis="y")
        for place, (_, style, found) in enumerate(rows):
            colour = _colour(style)
            drawn = axes.boxplot(
                found, positions=[place], orientation="horizontal", widths=0.55, whis=(0, 100)
            )
            for part in (part for parts in drawn.values() for part in parts):
                part.set(color=colour, linewidth=1.3)
            axes.plot(found, np.full(len(found), place), ".", color=colour, markersize=3)
        axes.set_yticks(range(len(rows)), [row[0] for row in rows])
        _ticks(axes.xaxis, *ends)

    return _svg(label, (BOXES[0], BOXES[1] + BOXES[2] * len(rows)), paint)


def _svg(label: str, size: tuple[float, float], paint: Callable[[Any], None]) -> str:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("report needs matplotlib: pip install 'learned-opt[report]'") from None

    look: dict[Any, Any] = {
        "svg.hashsalt": label,
        "svg.fonttype": "none",
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": GRID,
        "xtick.color": GRID,
        "ytick.color": GRID,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
    }
    with matplotlib.rc_context(look):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.set_axisbelow(True)
        paint(axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _inline(file.getvalue(), label)


def _plot(axes: Any, line: Series, marker: str = "") -> None:
    colour = _colour(line.style)
    pattern = [float(part) for part in dashes(line.style).split()]
    axes.plot(
        line.x,
        np.where(np.isfinite(line.middle), line.middle, np.nan),
        color=colour,
        linewidth=1.5,
        linestyle=(0, pattern) if pattern else "-",
        marker=marker,
    )
    banded = np.isfinite(line.low) & np.isfinite(line.high)
    if (line.high > line.low)[banded].any():
        axes.fill_between(
            line.x, line.low, line.high, where=banded, color=colour, alpha=0.15, linewidth=0
        )
    if len(line.ends):
        axes.plot(*line.ends.T, color=colour, marker="x", linestyle="none", clip_on=False)


def _inline(text: str, label: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    for placeholder, colour in PLACEHOLDERS.items():
        text = text.replace(placeholder, colour)
    escaped = label.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg ", f'<svg role="img" aria-label="{escaped}" ', 1).strip()
