"""The report as plain text for the terminal."""

from collections.abc import Sequence

from meta_train import wording
from meta_train.results import Report


def table(report: Report) -> str:
    """The verdict, the scores with failures first, and the final training losses."""
    yardstick = report.optimizers[report.yardstick]
    names = (report.optimizers[o] for o in report.ranking)
    finals = [
        (task, *(wording.final_text(report, o, t) for o in report.ranking))
        for t, task in enumerate(report.tasks)
    ]
    return "\n\n".join(
        [
            f"suite {report.suite}: {wording.setting(report)}; against {yardstick}",
            wording.headline(report),
            _plain(_scores(report)) + f"\n{wording.left_out(report)}".rstrip(),
            "final training loss (mean of seeds; * some seeds diverged)",
            _plain((("task", *names), *finals)),
        ]
    )


def speedups(report: Report) -> str:
    """The speedup of every optimizer on every task."""
    names = [report.optimizers[o] for o in report.ranking]
    means = report.scores.speedup.mean(axis=2)
    rows = [
        (task, *(wording.times(means[o, t]).rstrip("×") for o in report.ranking))
        for t, task in enumerate(report.tasks)
    ]
    note = "speedup in steps (mean of seeds; 0.00 never reached; – the yardstick diverged)"
    return f"{note}\n\n{_plain((('task', *names), *rows))}"


def _scores(report: Report) -> list[tuple[str, ...]]:
    """Best first."""
    heads: tuple[str, ...] = (
        "optimizer",
        "rate",
        "diverged",
        "reached",
        "trials",
        "loss ratio",
        "speedup",
        "95% new tasks",
    )
    heads += ("95% new seeds", "envelope", "by clock", "cost")
    rows: list[tuple[str, ...]] = [heads]
    for o in report.ranking:
        name, v = report.optimizers[o], report.verdicts[o]
        factors = (v.envelope_speedup, v.wall_clock_speedup, v.cost)
        rows.append(
            (
                name,
                report.forms.get(name, ""),
                f"{v.diverged}/{report.diverged[o].size}",
                f"{v.reached}/{wording.compared(report)}",
                str(report.trials(o)),
                wording.times(v.ratio).rstrip("×"),
                wording.times(v.speedup).rstrip("×"),
                wording.interval(v.speedup_interval, " .. "),
                wording.interval(v.speedup_interval_seeds, " .. "),
                *(wording.times(factor).rstrip("×") for factor in factors),
            )
        )
    used = [c for c in range(len(heads)) if any(row[c] not in ("", "–") for row in rows[1:])]
    return [tuple(row[c] for c in used) for row in rows]


def _plain(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *rest = (f"{text:>{width}}" for text, width in zip(row, widths, strict=True))
        lines.append("  ".join((f"{first.strip():<{widths[0]}}", *rest)).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(lines)
