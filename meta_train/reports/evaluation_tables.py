"""The tables of an evaluation's page. Every one says where its numbers lie in the files."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from meta_train.evaluation import stats
from meta_train.evaluation.entries import CONSTANT, LEARNED
from meta_train.evaluation.results import Report
from meta_train.reports import figures, page, wording
from meta_train.reports.page import Cell
from meta_train.reports.wording import interval, mean_of, number, times

GROUPS = {LEARNED: "Learned", CONSTANT: "Hand-designed, constant rate"}
SCHEDULED = "Hand-designed, rate on a schedule"


def style(report: Report, optimizer: int) -> int | None:
    """Number of the colour: by order, the yardstick has none."""
    if optimizer == report.yardstick:
        return None
    return optimizer - (optimizer > report.yardstick)


def name(report: Report, optimizer: int) -> str:
    """The name with its stroke."""
    number = style(report, optimizer)
    return page.key(number, figures.dashes(number)) + page.breakable(report.optimizers[optimizer])


def keys(report: Report) -> str:
    """The legend of the curves."""
    return page.keys([name(report, o) for o in range(len(report.optimizers))])


def shade(factor: float) -> float:
    """1 and above is four times better than the yardstick, -1 four times worse."""
    if np.isnan(factor):
        return 0.0
    return float(np.clip(np.log(factor) / np.log(4.0), -1, 1)) if factor > 0 else -1.0


def _groups(report: Report) -> list[tuple[str, list[int]]]:
    """Optimizers by the form of their rate, best first within each; one group if not recorded."""
    found: dict[str, list[int]] = {title: [] for title in (*GROUPS.values(), SCHEDULED, "")}
    for o in report.ranking:
        form = report.forms.get(report.optimizers[o])
        found["" if form is None else GROUPS.get(form, SCHEDULED)].append(o)
    filled = {title: members for title, members in found.items() if members}
    return [(title if len(filled) > 1 else "", members) for title, members in filled.items()]


def _by_form(report: Report, heads: Sequence[str], row: Any) -> str:
    """A sortable table of optimizers; constant and scheduled forms stay apart."""
    groups = [
        (title, [(Cell(name(report, o)), *row(o)) for o in members])
        for title, members in _groups(report)
    ]
    numbers = [o for _, members in _groups(report) for o in members]
    return page.grouped_table(("optimizer", *heads), groups, marked=numbers.index(report.yardstick))


def scores(report: Report) -> str:
    """The score table: the final loss and the speedup, then failures, validation and the rest."""
    yardstick = page.breakable(report.optimizers[report.yardstick])
    validation = report.validation

    def row(o: int) -> list[Cell | str]:
        v, runs = report.verdicts[o], report.diverged[o].size
        cells: list[Cell | str] = [
            Cell(
                f"{times(v.ratio)}<small>worst {times(v.worst_ratio)}</small>",
                v.ratio,
                shade=shade(1 / v.ratio),
            ),
            Cell(
                f"{times(v.speedup)}<small>{interval(v.speedup_interval)}</small>",
                v.speedup,
                shade=shade(v.speedup),
            ),
            Cell(f"{v.failed} of {wording.compared(report)}", v.failed),
            Cell(f"{v.diverged} of {runs}", v.diverged, css="failed" * bool(v.diverged)),
        ]
        if validation is not None:
            median, close = validation.median(o), validation.close(o)
            cells.append(Cell(times(median), median, shade=shade(1 / median)))
            cells.append(Cell(f"{close} of {validation.compared}", close))
        return [
            *cells,
            interval(v.speedup_interval_seeds),
            Cell(f"{v.gap:.2f}<small>{interval(v.gap_interval)}</small>", v.gap),
            Cell(f"{v.improvement:.0%}", v.improvement),
            Cell(str(report.trials(o)), report.trials(o)),
        ]

    heads = [
        "final loss ratio, median<br>worst task",
        "speedup in steps, IQM<br>95%, new tasks",
        f"tasks that did not reach {yardstick}",
        "diverged runs",
    ]
    if validation is not None:
        heads.append(f"validation loss over {yardstick}'s best by validation<br>median")
        heads.append("tasks within 2%<br>by validation")
    heads += [
        "speedup, 95%<br>new seeds only",
        "optimality gap<br>95%, new tasks",
        "ends lower",
        "trials a task",
    ]
    left_out = wording.left_out(report)
    return (
        _by_form(report, heads, row)
        + (f"<p>{escape(left_out)}</p>" if left_out else "")
        + page.folded("What the columns mean", f"<p>{_about_scores(report)}</p>")
    )


def _about_scores(report: Report) -> str:
    yardstick = escape(report.optimizers[report.yardstick])
    return (
        "Final loss ratio: training "
        "loss above the lower bound over the yardstick's; geometric mean of the seeds, median of "
        "the tasks, and below it the highest of the tasks; below 1 is better. Speedup: steps of "
        "the run over the first step at which "
        "its smoothed training loss (moving average over a twentieth of the run) is down to the "
        "yardstick's final one with the same seed, 0 if never; interquartile mean (IQM) over "
        "tasks and seeds; the yardstick's own is 1. A task did not reach the yardstick when less "
        f"than half of its seeds get down to the final loss of {yardstick}"
        f"{wording.tried(report, report.optimizers[report.yardstick])}. "
        "Validation: the same ratio of the final loss on the test split, mean of the seeds, where "
        "every tuned entry, the yardstick too, takes for each task the trial that ends lowest in "
        "it; within 2% or below counts as good as the yardstick. Trials a task: settings of which "
        "each task got the best. Intervals are bootstraps: for claims about new tasks, tasks are "
        "resampled and seeds within each; the narrower one resamples only the seeds of these "
        "tasks. Optimality gap: mean of what is missing to a speedup of 1. Ends lower: "
        "probability that a run ends below one of the yardstick, ties one half. A diverged run "
        "(a loss that is not finite, or an end above ten times the start) scores speedup 0 and "
        "ten times its start; none is left out unless the yardstick's own diverged. In "
        "results.json: verdicts, validation."
    )


def other_scores(report: Report) -> str:
    """Against the envelope, by the clock, and AlgoPerf's area: not to be mixed with the above."""

    def row(o: int) -> list[Cell | str]:
        v = report.verdicts[o]
        return [
            Cell(times(v.envelope_speedup), v.envelope_speedup, shade=shade(v.envelope_speedup)),
            interval(v.envelope_interval),
            Cell(f"{times(v.cost)}<small>{interval(v.cost_range)}</small>", v.cost),
            Cell(times(v.wall_clock_speedup), v.wall_clock_speedup),
            interval(v.wall_clock_interval),
            Cell(number(v.area), v.area),
            Cell(number(v.wall_clock_area), v.wall_clock_area),
        ]

    heads = (
        "speedup over the envelope, IQM",
        "95% interval",
        "time per step, relative<br>rough; lowest to highest task",
        "speedup by the clock, IQM<br>rough",
        "95% interval",
        "area score<br>by steps",
        "area score<br>by seconds",
    )
    yardstick = escape(report.optimizers[report.yardstick])
    return _by_form(report, heads, row) + (
        "<p><small>Three other questions; their numbers do not compare with the speedup above. "
        f"Envelope: the lowest loss at each step among all settings that {yardstick} tried, which "
        "no single setting follows; the speedup is the step at which the envelope is down to the "
        "run's final loss over the run's steps, or, for a run that ends below the envelope, its "
        "steps over those it took to get there. By the clock: speedup in steps over the relative "
        "time per step. The time is that of whole runs, many computed together, measurements "
        "included: it overstates the cost of a learned rule on small networks. "
        f"{wording.timing(report)} <code>learned-opt bench step</code> times updates in turns. "
        "Area score: "
        "AlgoPerf's formula on this suite, among these optimizers only: area under the profile of "
        "tasks solved within 1 to 4 times the fastest one's time. Intervals resample tasks, and "
        "seeds within each. In results.json: verdicts.</small></p>"
    )


def _task_table(report: Report, cell: Any, css: str = "") -> str:
    rows = [
        (page.breakable(task), *(cell(o, t) for o in report.ranking))
        for t, task in enumerate(report.tasks)
    ]
    return page.table(("task", *_heads(report)), rows, sortable=True, css=css)


def _heads(report: Report) -> list[str]:
    return [f"<span>{escape(report.optimizers[o])}</span>" for o in report.ranking]


def heat_map(report: Report) -> str:
    """Tasks by optimizers: final training loss over the yardstick's."""
    ratio = stats.geometric_mean(report.scores.ratio)

    def cell(o: int, t: int) -> Cell:
        if report.diverged[o, t].all():
            return Cell("×", np.inf, "failed", -1.0)
        text = times(ratio[o, t]).rstrip("×") + "×" * bool(report.diverged[o, t].any())
        return Cell(text, ratio[o, t], "", shade(1 / ratio[o, t]))

    return _task_table(report, cell, "heat") + (
        "<p><small>Final training loss over that of "
        f"{escape(report.optimizers[report.yardstick])}, geometric mean of the seeds. Blue ends "
        "lower, orange higher, full colour from four times; × diverged (with some seeds, after a "
        "number); – undefined. In results.json: final_loss_ratio.</small></p>"
    )


def times_to_target(report: Report) -> str:
    """Speedup and steps to the yardstick's final loss, task by task, censored at the run's end."""
    steps, speedup = report.scores.steps, report.scores.speedup
    whole = report.eval_steps[-1]

    def cell(o: int, t: int) -> Cell:
        known = steps[o, t][~np.isnan(steps[o, t])]
        if not known.size:
            return Cell("–", np.inf)
        middle, missed = float(np.median(known)), int(np.isinf(known).sum())
        text = f"{middle:.0f}" if np.isfinite(middle) else f"&gt; {whole}"
        text += f"<small>{missed} of {known.size} censored</small>" if missed else ""
        factor = float(np.nanmean(speedup[o, t]))
        colour = 0.0 if o == report.yardstick else shade(factor)
        return Cell(text, middle, "failed" * (missed == known.size), colour)

    return _task_table(report, cell) + (
        "<p><small>Steps until the smoothed training loss is down to the final one of "
        f"{escape(report.optimizers[report.yardstick])} with the same seed; median of the seeds. "
        f"Censored: not within the {whole} steps that were run. In results.json: steps_to_target, "
        "speedup.</small></p>"
    )


def losses(report: Report, curves: np.ndarray, split: str) -> str:
    """Final and best losses of one split."""
    best = stats.best(curves)

    def lowest(o: int, t: int) -> str:
        return f"best {number(mean_of(best[o, t], report.diverged[o, t]))}"

    return _finals(report, curves[..., -1], report.diverged, lowest) + (
        f"<p><small>Mean of the seeds that did not diverge; below it the mean of their lowest "
        f"{split} "
        f"loss along the run. In results.parquet: {split}_loss at the last step.</small></p>"
    )


def validation(report: Report) -> str:
    """Final losses on the test split of the trials chosen by it; nothing where unknown."""
    found = report.validation
    if found is None:
        return "<p>Not recorded by the version that made these results; evaluate again.</p>"

    def ratio(o: int, t: int) -> str:
        return times(found.ratio[o, t])

    return _finals(report, found.loss, found.diverged, ratio) + (
        "<p><small>Loss on the test split after the last step, mean of the seeds that did not "
        "diverge; every tuned entry takes for each task the trial that ends lowest here. Below "
        f"it the ratio to {escape(report.optimizers[report.yardstick])}, above the lower bound "
        "where there is one. In results.json: validation.</small></p>"
    )


def _finals(report: Report, losses: np.ndarray, diverged: np.ndarray, below: Any) -> str:
    """Mean losses of the runs that did not diverge, both [optimizer, task, seed].

    below: (optimizer, task) -> what stands under the loss.
    """
    count = len(report.seeds)
    final = np.array(
        [
            [mean_of(losses[o, t], diverged[o, t]) for t in range(len(report.tasks))]
            for o in range(len(report.optimizers))
        ]
    )
    lowest = np.where(np.isfinite(final), final, np.inf).min(axis=0)

    def cell(o: int, t: int) -> Cell:
        gone = int(diverged[o, t].sum())
        text = "diverged" if gone == count else number(final[o, t])
        if 0 < gone < count:
            text += f"<small>{gone} of {count} diverged</small>"
        if gone < count:
            text += f"<small>{below(o, t)}</small>"
        css = "failed" * bool(gone) or "best" * bool(final[o, t] == lowest[t])
        return Cell(text, final[o, t], css)

    return _task_table(report, cell)


def comparisons(report: Report) -> str:
    """The optimizer looked at against each of the others, over tasks."""
    rows = []
    for o in report.ranking:
        if o == report.subject:
            continue
        c = report.compare(report.subject, o)
        rows.append(
            (
                Cell(name(report, o)),
                Cell(f"{c.wins} / {c.ties} / {c.losses}", c.wins - c.losses),
                Cell(times(c.ratio), c.ratio, shade=shade(1 / c.ratio)),
                interval(c.ratio_interval),
                Cell(f"{c.improvement:.0%}", c.improvement),
                Cell(wording.chance(c.sign_p), c.sign_p),
                Cell(wording.chance(c.wilcoxon_p), c.wilcoxon_p),
            )
        )
    heads = ("against", "tasks won / tied / lost", "final loss ratio<br>IQM", "95% interval")
    heads += ("ends lower", "sign test p", "Wilcoxon p")
    return page.table(heads, rows, sortable=True) + (
        f"<p><small>{escape(report.optimizers[report.subject])} on the final training loss; the "
        "same starts and minibatches for both. A tie is within 1%. Ratio: interquartile mean of "
        "the logarithm over tasks and seeds; the interval resamples tasks, and seeds within each. "
        "Both tests are over tasks, two-sided and exact, and not corrected for making several "
        "comparisons. All pairs in results.json: comparisons.</small></p>"
    )


def divergences(report: Report) -> str:
    """What diverged, when and why; trials of tuned entries too."""
    rows = []
    limits = stats.divergence_limit(report.train_loss[..., 0], report.lower_bound)
    for o, t, s in np.argwhere(report.diverged):
        rows.append(
            (
                escape(report.optimizers[o]),
                escape(report.tasks[t]),
                str(report.seeds[s]),
                _reason(report.train_loss[o, t, s], float(limits[o, t, s]), report.eval_steps),
            )
        )
    parts = [page.table(("optimizer", "task", "seed", "why"), rows, css="texts")] if rows else []
    parts += [] if rows else ["<p>No run in the tables above.</p>"]
    tried = [
        (escape(entry), escape(task), ", ".join(trial(grid.trials[n]) for n in gone))
        for entry, grid in report.grids.items()
        for task, finals in zip(report.tasks, grid.final_loss, strict=True)
        if (gone := [n for n, final in enumerate(finals) if final is None])
    ]
    if tried:
        heads = ("tuned entry", "task", "settings with which a seed diverged")
        parts.append(page.folded("Trials of tuned entries", page.table(heads, tried, css="texts")))
    return "\n".join(parts)


def _reason(run: np.ndarray, limit: float, steps: Sequence[int]) -> str:
    seen = np.isfinite(run)
    if seen.all():
        return f"ended at {number(run[-1])}, above {number(limit)} (ten times its start plus 1)"
    first = int(np.argmin(seen))
    before = f", {number(run[first - 1])} at the measurement before" if first else ""
    return f"a loss that is not finite at step {steps[first]}{before}"


def trial(hyperparameters: dict[str, Any]) -> str:
    """What a trial set, as HTML; a lone learning rate needs no name."""
    texts = {k: f"{v:.3g}" if isinstance(v, float) else str(v) for k, v in hyperparameters.items()}
    if list(texts) == ["learning_rate"]:
        return texts["learning_rate"]
    return "<br>".join(f"{escape(name)} {escape(text)}" for name, text in texts.items())


def grids(report: Report) -> str:
    """Everything that tuned entries tried."""
    if not report.grids:
        return "<p>None: every optimizer ran with one setting for all tasks.</p>"
    parts = [
        "<p>Mean final training loss of each trial; the one taken is bold. The choice is "
        "made on the seeds that are reported, which favours these baselines a little. All their "
        "curves: trials.parquet.</p>"
    ]
    for entry, grid in report.grids.items():
        rows = []
        for task, chosen, finals in zip(report.tasks, grid.chosen, grid.final_loss, strict=True):
            cells = [
                Cell("diverged" if final is None else number(final), css="best" * (n == chosen))
                for n, final in enumerate(finals)
            ]
            rows.append((escape(task), *cells))
        parts.append(page.table((escape(entry), *map(trial, grid.trials)), rows))
    return "\n".join(parts)


def step_times(report: Report) -> str:
    def cell(o: int, t: int) -> Cell:
        seconds = report.seconds_per_step[o, t]
        return Cell(f"{1e6 * seconds:.3g}", seconds)

    return (
        "<p>Microseconds for one step of one run: gradient, update and measurements. Optimizers "
        "that share their code ran as one program and share its time. In results.json: "
        "seconds_per_step.</p>" + _task_table(report, cell)
    )


def environment(report: Report) -> str:
    about = {
        "suite": report.suite,
        "suite fingerprint": report.fingerprint or "none",
        "seeds": ", ".join(map(str, report.seeds)),
    }
    about |= {key: str(value) for key, value in (report.settings | report.versions).items()}
    return page.facts(about) + (
        "<p><small>All numbers on this page come from results.parquet in the same folder, one row "
        "for each optimizer, task, seed and step, and trials.parquet, the same for all trials of "
        "tuned entries; results.json has the scores.</small></p>"
    )
