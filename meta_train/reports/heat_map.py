"""Histograms over time as inline SVG in the colour of the page around it."""

from collections.abc import Sequence
from html import escape

import numpy as np

from learned_opt.monitoring.statistics import BINS, EDGES, HIGHEST, LOWEST

LEVELS = 8  # of opacity
COLUMNS = 90
IGNORED = 0.003  # share of the entries that lie below the smallest magnitude shown
PER_DECADE = BINS // (HIGHEST - LOWEST)
WIDTH, HEIGHT = 252, 180  # as meta_train/reports/figures.py has
LEFT, TOP, RIGHT, BOTTOM = 36, 6, 248, 152  # of the map
CLOSEST = 11  # that labels of magnitudes come to the middle
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def heat_map(
    negative: np.ndarray,
    positive: np.ndarray,
    steps: Sequence[int],
    style: int,
    label: str,
    x_label: str = "step",
) -> str:
    """One <svg>: a column per record, large positive entries on top, large negative ones below.

    negative, positive: [record, bin] counts as in Statistics. style: number of the page's colour.
    label: what a screen reader says. Opacity goes with the root of a bin's share of its column.
    """
    shown = np.unique(np.linspace(0, len(steps) - 1, min(COLUMNS, len(steps))).round().astype(int))
    low, high = _decades((negative + positive)[shown])
    rows = np.concatenate(
        [_between(positive[shown], low, high)[:, ::-1], _between(negative[shown], low, high)], 1
    )
    shares = rows / np.maximum(rows.sum(1, keepdims=True), 1)
    levels = np.ceil(LEVELS * np.sqrt(shares / max(shares.max(), 1e-9))).astype(int)
    columns, height = levels.shape
    paths = "".join(
        f'<path fill-opacity="{level / LEVELS:.3g}" d="{_cells(levels == level)}"/>'
        for level in range(1, LEVELS + 1)
        if (levels == level).any()
    )
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-size="9" fill="currentColor">'
        f'<svg x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}" '
        f'viewBox="0 0 {columns} {height}" preserveAspectRatio="none" '
        f'shape-rendering="crispEdges" fill="var(--c{style % 10})">{paths}</svg>'
        f"{_magnitude_axis(low, high)}{_step_axis([steps[i] for i in shown], x_label)}</svg>"
    )


def _decades(counts: np.ndarray) -> tuple[int, int]:
    """Whole decades between which nearly all entries lie."""
    total = counts.sum(0)
    if not total.any():
        return -4, 0
    reached = np.cumsum(total) / total.sum()
    low = EDGES[int(np.argmax(reached > IGNORED))]
    high = EDGES[int(np.flatnonzero(total)[-1]) + 1]
    low = int(np.floor(low))
    return low, max(int(np.ceil(high)), low + 1)


def _between(counts: np.ndarray, low: int, high: int) -> np.ndarray:
    """The bins of the decades shown; what is smaller counts to the first."""
    first, last = (PER_DECADE * (decade - LOWEST) for decade in (low, high))
    chosen = counts[:, first:last].copy()
    chosen[:, 0] += counts[:, :first].sum(1)
    return chosen


def _cells(marked: np.ndarray) -> str:
    """Rectangles around the runs of marked cells, [column, row]."""
    found = []
    for x, column in enumerate(marked):
        ends = np.flatnonzero(np.diff(np.concatenate([[0], column.astype(int), [0]])))
        found += [f"M{x} {a}h1v{b - a}h-1z" for a, b in zip(ends[::2], ends[1::2], strict=True)]
    return "".join(found)


def _magnitude_axis(low: int, high: int) -> str:
    middle, half = (TOP + BOTTOM) / 2, (BOTTOM - TOP) / 2
    every = -(-(high - low) // 4)
    parts = [_line(LEFT, middle, RIGHT, middle), _line(LEFT, TOP, LEFT, BOTTOM)]
    for decade in range(high, low, -every):
        offset = half * (decade - low) / (high - low)
        if offset < CLOSEST:
            continue
        power = f"10{str(decade).translate(SUPERSCRIPTS)}"
        parts += [_text(LEFT - 3, middle - offset + 3, power, "end")]
        parts += [_text(LEFT - 3, middle + offset + 3, f"−{power}", "end")]
    smallest = f"±10{str(low).translate(SUPERSCRIPTS)}"
    return "".join([*parts, _text(LEFT - 3, middle + 3, smallest, "end")])


def _step_axis(steps: Sequence[int], label: str) -> str:
    columns = len(steps)
    places = sorted({0, columns // 2, columns - 1}) if columns > 4 else range(columns)
    parts = [_line(LEFT, BOTTOM, RIGHT, BOTTOM)]
    for i in places:
        x = LEFT + (RIGHT - LEFT) * (i + 0.5) / columns
        anchor = "end" if i == columns - 1 and columns > 4 else "middle"
        parts.append(_text(RIGHT if anchor == "end" else x, BOTTOM + 11, f"{steps[i]}", anchor))
    return "".join([*parts, _text((LEFT + RIGHT) / 2, HEIGHT - 5, label, "middle")])


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="var(--line)" stroke-width=".8"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
