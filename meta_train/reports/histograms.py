"""How gradients, updates and parameters were distributed in the course of training, drawn."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from learned_opt.files import write_whole
from meta_train.reports import figures, page
from meta_train.reports.figures import Series
from meta_train.reports.heat_map import heat_map

Rows = Sequence[dict[str, Any]]  # as learned_opt.records gives them

DRAWN = 8  # tensors, the others are in the table only
PARTS = {"gradient": "gradient", "update": "update", "params": "parameters"}
CURVES = {  # statistic of all three -> caption
    "rms": "Root mean square",
    "peak": "Largest entry, in rms",
    "skewness": "Skewness",
    "kurtosis": "Excess kurtosis",
    "hill": "Tail index of the largest 1 %",
    "small": "Share below 1e-3 rms",
}
LEGEND = (
    "<p>Heat maps show how many entries of a tensor have which magnitude: a column is a record, "
    "positive entries are above the middle and negative ones below, small ones near it, and a "
    "stronger colour is a larger share. The curves are statistics of the same records. A healthy "
    "gradient is roughly symmetric, with a tail index near the normal distribution's 0.13.</p>"
)


def write_histogram_html(rows: Rows, path: str | Path, title: str = "Histograms") -> Path:
    """Writes what `learned_opt.records` gives as one self-contained page and says where.

    Raises ValueError without rows, MissingExtra without matplotlib.
    """
    if not rows:
        raise ValueError("rows: there is none; learned_opt.records(state) gives them")
    path = Path(path)
    write_whole(path, page.page(title, f"<h1>{escape(title)}</h1>\n{histograms(rows)}"))
    return path


def histograms(rows: Rows, unit: str = "step") -> str:
    """A table of the last record of every tensor, then heat maps and curves tensor by tensor.

    unit: what an update is called.
    """
    leaves: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        leaves.setdefault(row["leaf"], []).append(row)
    by_size = sorted(leaves, key=lambda name: -_size(leaves[name][0]))
    drawn = [name for name in leaves if name in by_size[:DRAWN]]
    more = f"<p>Drawn: the largest {DRAWN} of {len(leaves)} tensors.</p>"
    return "\n".join(
        [
            LEGEND,
            _keys(),
            _last(leaves, unit),
            *([more] if len(leaves) > DRAWN else []),
            *(_leaf(name, leaves[name], unit, opened=i == 0) for i, name in enumerate(drawn)),
        ]
    )


def _size(row: dict[str, Any]) -> float:
    params = row["params"]
    counted = sum(params["negative"]) + sum(params["positive"])
    return counted / max(1 - params["zeros"], 1e-9)


def _keys() -> str:
    items = [f"<span>{page.key(i, '')}{name}</span>" for i, name in enumerate(PARTS.values())]
    return f'<div class="keys">{"".join(items)}</div>'


def _last(leaves: dict[str, list[dict[str, Any]]], unit: str) -> str:
    """Of every tensor at the last record."""
    columns = {
        "gradient rms": lambda row: row["gradient"]["rms"],
        "update rms": lambda row: row["update"]["rms"],
        "parameter rms": lambda row: row["params"]["rms"],
        "update / parameters": lambda row: row["ratio"],
        "cosine with descent": lambda row: row["cosine"],
        "gradient kurtosis": lambda row: row["gradient"]["kurtosis"],
        "gradient tail index": lambda row: row["gradient"]["hill"],
        "gradient zeros": lambda row: row["gradient"]["zeros"],
        "not finite": lambda row: row["gradient"]["not_finite"],
    }
    cells: list[list[page.Cell | str]] = [
        [_name(name), *(page.Cell(f"{of(rows[-1]):.3g}", of(rows[-1])) for of in columns.values())]
        for name, rows in leaves.items()
    ]
    step = max(rows[-1]["step"] for rows in leaves.values())
    return f"<p>At {unit} {step}:</p>\n" + page.table(["tensor", *columns], cells, sortable=True)


def _name(leaf: str) -> str:
    return escape(leaf) or "the tensor"


def _leaf(name: str, rows: Rows, unit: str, opened: bool) -> str:
    steps = [row["step"] for row in rows]
    captions, drawings = [], []
    for style, (part, title) in enumerate(PARTS.items()):
        negative, positive = (
            np.asarray([row[part][sign] for row in rows]) for sign in ("negative", "positive")
        )
        captions.append(title.capitalize())
        label = f"histogram of {title}, {name}"
        drawings.append(heat_map(negative, positive, steps, style, label, unit))
    x = np.asarray(steps, float)
    for field, caption in CURVES.items():
        lines = [
            _line(style, x, [row[part][field] for row in rows], log=field == "rms")
            for style, part in enumerate(PARTS)
        ]
        captions.append(caption)
        drawings.append(figures.draw(lines, f"{caption} of {name}", "", unit, whole=True))
    rms = np.asarray([max(row["gradient"]["rms"], 1e-30) for row in rows])[:, None]
    quantiles = np.asarray([row["gradient"]["quantiles"] for row in rows]) / rms
    singles = {
        "Gradient in rms: median, 1 to 99 %": Series(0, x, *quantiles.T[[2, 1, 3]]),
        "Update over parameters, rms": _line(1, x, [row["ratio"] for row in rows], log=True),
        "Cosine of step and descent": _line(1, x, [row["cosine"] for row in rows]),
    }
    for caption, line in singles.items():
        captions.append(caption)
        drawings.append(figures.draw([line], f"{caption}, {name}", "", unit, whole=True))
    how = " open" if opened else ""
    body = page.figures(captions, drawings)
    return f"<details{how}><summary>{_name(name)}</summary>\n{body}\n</details>"


def _line(style: int, x: np.ndarray, values: Sequence[float], log: bool = False) -> Series:
    """log: leave zeros out, so that the rest can stand on a logarithmic axis."""
    y = np.asarray(values, float)
    y = np.where(y > 0, y, np.nan) if log else y
    return Series(style, x, y, y, y)
