"""The page people read of an evaluation: one self-contained HTML file."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from meta_train.evaluation.results import Report
from meta_train.reports import (
    evaluation_figures as drawn,
    evaluation_tables as tables,
    page,
    robustness as robustness_page,
    wording,
)
from meta_train.reports.evaluation_text import table
from meta_train.reports.figures import MissingExtra

__all__ = ["MissingExtra", "html", "table", "write_html"]


def write_html(report: Report, folder: str | Path, seen: Report | None = None) -> Path:
    """Writes report.html and says where, with the robustness sweeps in `folder`; see `html`.

    Raises ResultsError where a sweep cannot be read.
    """
    text = html(report, seen, robustness_page.sections(Path(folder)))
    path = Path(folder) / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def html(report: Report, seen: Report | None = None, robustness: Sequence[str] = ()) -> str:
    """The page: the same text for the same report. Raises MissingExtra without matplotlib.

    seen: results on tasks of meta-training, to be drawn beside in the figure of budgets.
    robustness: sections on sweeps, trusted HTML.
    """
    yardstick = escape(report.optimizers[report.yardstick])
    sections = [
        f"<h1>Optimizers on {escape(report.suite)}</h1>",
        f'<p class="soft">{escape(wording.setting(report))}. Every optimizer starts from the same '
        f"parameters and sees the same minibatches. Yardstick: {yardstick}"
        f"{wording.tried(report, report.optimizers[report.yardstick])}.</p>",
        f'<p class="verdict">{escape(wording.headline(report))}</p>',
        "<h2>Scores</h2>",
        tables.scores(report),
        "<h2>Final loss, tasks by optimizers</h2>",
        tables.heat_map(report),
        "<h2>Validation loss, tasks by optimizers</h2>",
        tables.validation(report),
        "<h2>Learning curves</h2>",
        "<p>Training loss on the whole split. Line: geometric mean of the seeds (median where the "
        "loss has no lower bound); band: lowest to highest seed; ×: a run that diverged. Where a "
        "task declares a lower bound, the loss above it is drawn.</p>",
        drawn.curves(report, report.train_loss, "training"),
        *_comparison(report),
        f"<h2>Time to the final loss of {yardstick}</h2>",
        tables.times_to_target(report),
        "<h2>Performance profiles</h2>",
        "<p>Left: the part of all runs with a speedup above each value, with a 95% band for new "
        "tasks. Then the part of the tasks on which an optimizer got there within so many times "
        "the steps, or seconds, of the fastest one (median of the seeds).</p>",
        drawn.profiles(report),
        "<h2>Envelope, wall clock and area scores</h2>",
        tables.other_scores(report),
        page.folded("Time per step", tables.step_times(report)),
        *_budgets(report, seen),
        *robustness,
        "<h2>What diverged and why</h2>",
        tables.divergences(report),
        "<h2>Losses</h2>",
        page.folded("Training loss", tables.losses(report, report.train_loss, "train")),
        page.folded(
            "Test loss",
            tables.losses(report, report.test_loss, "test")
            + drawn.curves(report, report.test_loss, "test"),
        ),
        page.folded("Tuned baselines: what was tried", tables.grids(report)),
        "<h2>Configuration and environment</h2>",
        tables.environment(report),
    ]
    return page.page(f"learned-opt: {report.suite}", "\n".join(sections))


def _comparison(report: Report) -> list[str]:
    if len(report.optimizers) < 2:
        return []
    return [
        f"<h2>{escape(report.optimizers[report.subject])} against each of the others</h2>",
        tables.comparisons(report),
    ]


def _budgets(report: Report, seen: Report | None) -> list[str]:
    drawing = drawn.budgets([report] if seen is None else [seen, report])
    if not drawing:
        return []
    beside = "" if seen is None else f" Left: {escape(seen.suite)}, tasks of meta-training."
    return [
        "<h2>What tuning is worth</h2>",
        "<p>One setting for all tasks against some trials for each of them: the box is the middle "
        "half of the tasks, the line its median, the dots all tasks. The one setting is the best "
        "on these very tasks, which favours it; k trials are the expected best of k that were "
        f"drawn from all that were tried.{beside} In results.json: budgets.</p>",
        drawing,
    ]
