"""The report as plain text for the terminal."""

import re
import textwrap
from collections.abc import Sequence

import numpy as np

from meta_train.evaluation.results import Report
from meta_train.reports import wording
from meta_train.reports.wording import interval, times

WIDTH = 100  # columns of the terminal
SHORT, LONG = 9, 14  # columns of a heading, or a name, before it goes on in the next line


def table(report: Report) -> str:
    """The verdict, the scores, and the final losses task by task; at most WIDTH columns wide."""
    yardstick = report.optimizers[report.yardstick]
    parts = [
        f"suite {report.suite}: {wording.setting(report)}; against {yardstick}",
        wording.headline(report),
        _plain(_scores(report), SHORT),
        f"{wording.left_out(report)} {wording.timing(report)}".strip(),
        "final training loss (mean of seeds; * some seeds diverged)",
        _finals(report, report.train_loss[..., -1], report.diverged),
    ]
    if (found := report.validation) is not None:
        parts += [
            "final validation loss (the same; of each task the trial that ends lowest in it)",
            _finals(report, found.loss, found.diverged),
        ]
    return "\n\n".join(part if "\n" in part else textwrap.fill(part, WIDTH) for part in parts)


def speedups(report: Report) -> str:
    """The speedup of every optimizer on every task."""
    means = report.scores.speedup.mean(axis=2)
    rows = [["task", *(report.optimizers[o] for o in report.ranking)]]
    rows += [
        [task, *(_factor(means[o, t]) for o in report.ranking)]
        for t, task in enumerate(report.tasks)
    ]
    note = "speedup in steps (mean of seeds; 0.00 never reached; – the yardstick diverged)"
    return f"{note}\n\n{_plain(rows, LONG)}"


def _scores(report: Report) -> list[list[str]]:
    """Best first; columns without anything to say are left out."""
    heads = ["optimizer", "loss ratio", "worst task", "speedup", "95% new tasks", "reached"]
    if (found := report.validation) is not None:
        heads += ["validation ratio", "within 2%"]
    heads += ["diverged", "by clock (rough)", "time/step (rough)", "lowest, highest"]
    heads += ["95% new seeds", "envelope", "trials", "rate"]
    rows = [heads]
    for o in report.ranking:
        v = report.verdicts[o]
        cells = [
            report.optimizers[o],
            *map(_factor, (v.ratio, v.worst_ratio, v.speedup)),
            interval(v.speedup_interval, " .. "),
            f"{v.reached}/{wording.compared(report)}",
        ]
        if found is not None:
            cells += [_factor(found.median(o)), f"{found.close(o)}/{found.compared}"]
        cells += [
            f"{v.diverged}/{report.diverged[o].size}",
            *map(_factor, (v.wall_clock_speedup, v.cost)),
            interval(v.cost_range, " .. "),
            interval(v.speedup_interval_seeds, " .. "),
            _factor(v.envelope_speedup),
            str(report.trials(o)),
            report.forms.get(report.optimizers[o], ""),
        ]
        rows.append(cells)
    used = [c for c in range(len(heads)) if any(row[c] not in ("", "–") for row in rows[1:])]
    return [[row[c] for c in used] for row in rows]


def _factor(value: float) -> str:
    return times(value).rstrip("×")


def _finals(report: Report, losses: np.ndarray, diverged: np.ndarray) -> str:
    """Tasks by optimizers; both arrays [optimizer, task, seed]."""
    rows = [["task", *(report.optimizers[o] for o in report.ranking)]]
    for t, task in enumerate(report.tasks):
        cells = (wording.final_text(losses[o, t], diverged[o, t]) for o in report.ranking)
        rows.append([task, *cells])
    return _plain(rows, LONG)


def _plain(rows: Sequence[Sequence[str]], head: int) -> str:
    """A table, in as many blocks below each other as WIDTH makes necessary.

    The first row has the headings, broken after `head` columns.
    """
    heads = [_stacked(text, head) for text in rows[0]]
    widths = [max(map(len, (*head, *cells))) for head, *cells in zip(heads, *rows[1:], strict=True)]
    blocks, room = [], 0
    for column, width in enumerate(widths[1:], 1):
        if width + 2 > room:
            blocks.append([0])
            room = WIDTH - widths[0]
        blocks[-1].append(column)
        room -= width + 2
    return "\n\n".join(_block(heads, rows[1:], widths, columns) for columns in blocks)


def _block(
    heads: Sequence[Sequence[str]],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int],
    columns: Sequence[int],
) -> str:
    """Some of the columns, the first of them to the left."""
    height = max(len(heads[column]) for column in columns)
    padded = {c: [""] * (height - len(heads[c])) + list(heads[c]) for c in columns}
    above = [{c: padded[c][line] for c in columns} for line in range(height)]
    lines = []
    for row in (*above, *rows):
        first, *rest = (f"{row[column]:>{widths[column]}}" for column in columns)
        lines.append("  ".join((f"{first.strip():<{widths[0]}}", *rest)).rstrip())
    lines.insert(height, "-" * max(map(len, lines)))
    return "\n".join(lines)


def _stacked(head: str, width: int) -> list[str]:
    """A heading in lines of `width` columns, broken behind underscores, before + and spaces."""
    lines = [""]
    for part in re.findall(r"[ +]?[^ +_]*_?", head):
        if lines[-1] and len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return [line.strip() for line in lines]
