"""The outcome of an evaluation, and how it is kept: results.parquet and results.json."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from learned_opt.naming import check_name
from meta_train.evaluation import stats
from meta_train.evaluation.scores.against import Scores, score
from meta_train.evaluation.scores.budgets import Budget, budgets, per_task, trial_ratios
from meta_train.evaluation.scores.paired import Comparison, compare
from meta_train.evaluation.scores.validation import Trials, Validation, validate
from meta_train.evaluation.scores.verdicts import Verdict, ranking, verdicts

TUNED = " (tuned)"  # behind the name of an entry that is tuned per task
YARDSTICK = f"adam{TUNED}"
METADATA = b"learned_opt.report"
RESULTS, TRIALS = "results.parquet", "trials.parquet"
LOSSES = ("train_loss", "test_loss")
COLUMNS = ("optimizer", "task", "seed", "step", *LOSSES)


class ResultsError(Exception):
    """Results that are missing, damaged or foreign; the message says which file and what to do."""


@dataclass(frozen=True)
class Grid:
    """What a tuned entry tried: each task got the trial with the least final training loss."""

    trials: tuple[dict[str, Any], ...]  # the hyperparameters of each, in the order of the search
    chosen: tuple[int, ...]  # per task, number of the trial
    final_loss: tuple[tuple[float | None, ...], ...]  # [task][trial], mean of seeds; None: diverged
    # [task][trial] per step; nothing from older versions. Not part of what was found.
    seconds: tuple[tuple[float, ...], ...] = field(default=(), compare=False)


@dataclass(frozen=True, eq=False)
class Report:
    """Every run of every optimizer on every task of a suite.

    train_loss and test_loss are taken on the whole split at the parameters to evaluate. Diverged
    runs are kept, with the losses they had.
    """

    suite: str
    fingerprint: str
    optimizers: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    eval_steps: tuple[int, ...]  # the first is 0, before any update
    train_loss: np.ndarray  # [optimizer, task, seed, point]
    test_loss: np.ndarray  # [optimizer, task, seed, point]
    lower_bound: np.ndarray  # [task, seed], NaN where the task declares none
    diverged: np.ndarray  # [optimizer, task, seed], stats.find_diverged
    seconds_per_step: np.ndarray  # [optimizer, task], of one run among those computed together
    grids: dict[str, Grid]  # by name of the tuned entry
    settings: dict[str, Any]
    versions: dict[str, str]
    # By name of the tuned entry: [trial, task, seed, point] training loss of all that was tried.
    trial_loss: dict[str, np.ndarray] = field(default_factory=dict)
    trial_test_loss: dict[str, np.ndarray] = field(default_factory=dict)  # likewise
    forms: dict[str, str] = field(default_factory=dict)  # by name, entries.form_of
    scored_against: str = YARDSTICK

    @property
    def yardstick(self) -> int:
        """Number of the optimizer `scored_against`; of the last one where that is not there."""
        if self.scored_against in self.optimizers:
            return self.optimizers.index(self.scored_against)
        return len(self.optimizers) - 1

    def against(self, name: str) -> "Report":
        """The same runs with another yardstick, as find_yardstick takes it. Raises ValueError."""
        return replace(self, scored_against=find_yardstick(name, self.optimizers))

    @property
    def subject(self) -> int:
        """Number of the optimizer looked at: the first that is not the yardstick, if any is."""
        return int(self.yardstick == 0 and len(self.optimizers) > 1)

    def trials(self, optimizer: int) -> int:
        """How many settings an optimizer was given to choose from, on each task."""
        grid = self.grids.get(self.optimizers[optimizer])
        return len(grid.trials) if grid else 1

    @cached_property
    def scores(self) -> Scores:
        """Of the training loss."""
        return score(
            self.train_loss,
            self.lower_bound,
            self.diverged,
            np.asarray(self.eval_steps),
            self.yardstick,
            self.trial_loss.get(self.optimizers[self.yardstick]),
        )

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One for each optimizer, on the training loss."""
        return verdicts(self.scores, self.diverged, self.seconds_per_step, self.yardstick)

    @cached_property
    def validation(self) -> Validation | None:
        """On the test loss, by which trials are chosen; None where theirs was not recorded."""
        if set(self.grids) - set(self.trial_test_loss):
            return None
        runs = [
            Trials(self.trial_loss[name], self.trial_test_loss[name])
            if name in self.grids
            else Trials(self.train_loss[number][None], self.test_loss[number][None])
            for number, name in enumerate(self.optimizers)
        ]
        return validate(runs, self.lower_bound, self.yardstick)

    @property
    def timing_spread(self) -> float:
        """How many times as long the slowest trial took as the fastest, which cost the same.

        The median over tuned entries and tasks; NaN where nothing was timed twice.
        """
        seconds = [row for grid in self.grids.values() for row in grid.seconds if len(row) > 1]
        return float(np.median([max(row) / min(row) for row in seconds] or [np.nan]))

    @property
    def ranking(self) -> list[int]:
        """Numbers of the optimizers, best first; one that diverges is last, not left out."""
        return ranking(self.verdicts)

    def compare(self, optimizer: int, other: int) -> Comparison:
        """Two optimizers by number, paired by task and seed, on the final training loss."""
        return compare(
            *(self.scores.final[optimizer], self.diverged[optimizer]),
            *(self.scores.final[other], self.diverged[other]),
        )

    @cached_property
    def budgets(self) -> tuple[Budget, ...]:
        """Tuned entries by number of trials, and the others with the one setting they have."""
        reference = self.scores.final[self.yardstick]
        found = []
        for number in self.ranking:
            name = self.optimizers[number]
            known = name in self.trial_loss
            trials = self.trial_loss[name] if known else self.train_loss[number][None]
            ratios = trial_ratios(trials, self.lower_bound, reference)
            if name in self.grids and not known:  # of an older version: only the best is there
                ratio = ratios[0, np.isfinite(ratios[0])]
                found.append(Budget(name, per_task(name, len(self.grids[name].trials)), ratio))
            else:
                found += budgets(name, ratios)
        return tuple(found)

    def save(self, folder: str | Path) -> None:
        """Writes the curves and the scores.

        results.parquet: all curves of the table; trials.parquet: those of all that tuned entries
        tried; results.json: scores, for people and scripts.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _write_parquet(self, folder / RESULTS)
        _write_trials(self, folder / TRIALS)
        text = json.dumps(_finite(_scored(self)), indent=1, allow_nan=False)
        (folder / "results.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> "Report":
        """Reads a folder back. Raises ResultsError where that is not possible."""
        report = _read_parquet(Path(folder) / RESULTS)
        train, test = _read_trials(report, Path(folder) / TRIALS)
        return replace(report, trial_loss=train, trial_test_loss=test)


def find_yardstick(name: str, optimizers: Sequence[str]) -> str:
    """Which of the optimizers is meant by NAME, as baselines are named: the tuned one if there.

    Raises ValueError.
    """
    if name + TUNED in optimizers:
        return name + TUNED
    check_name("yardstick", name, [other.removesuffix(TUNED) for other in optimizers])
    return name


def _finite(value: Any) -> Any:
    """The value with None in place of NaN and infinity, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _about(report: Report) -> dict[str, Any]:
    """Everything but the curves."""
    about = {f.name: getattr(report, f.name) for f in fields(report)}
    for curves in (*LOSSES, "trial_loss", "trial_test_loss"):
        del about[curves]
    about["grids"] = {name: asdict(grid) for name, grid in report.grids.items()}
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in about.items()}


def _scored(report: Report) -> dict[str, Any]:
    """What results.json holds; arrays as nested lists, axes as in Report."""
    scores = report.scores
    return _about(report) | {
        "yardstick": report.optimizers[report.yardstick],
        "verdicts": {
            name: verdict._asdict()
            for name, verdict in zip(report.optimizers, report.verdicts, strict=True)
        },
        "ranking": [report.optimizers[number] for number in report.ranking],
        "comparisons": {
            name: {
                other: report.compare(one, two)._asdict()
                for two, other in enumerate(report.optimizers)
                if two != one
            }
            for one, name in enumerate(report.optimizers)
        },
        "budgets": {budget.name: budget.ratio.tolist() for budget in report.budgets},
        "final_train_loss": report.train_loss[..., -1].tolist(),
        "final_test_loss": report.test_loss[..., -1].tolist(),
        "best_train_loss": stats.best(report.train_loss).tolist(),
        "best_test_loss": stats.best(report.test_loss).tolist(),
        "final_loss_ratio": scores.ratio.tolist(),
        "speedup": scores.speedup.tolist(),
        "steps_to_target": scores.steps.tolist(),
        "envelope_speedup": scores.envelope_speedup.tolist(),
        "timing_spread": report.timing_spread,
        "validation": _validated(report),
    }


def _validated(report: Report) -> dict[str, Any] | None:
    """The part of results.json about the test loss, by which trials are chosen here."""
    found = report.validation
    if found is None:
        return None
    return {
        "final_loss": found.loss.tolist(),
        "diverged": found.diverged.tolist(),
        "ratio": found.ratio.tolist(),
        "within": found.within.tolist(),
        "compared": found.compared,
        "verdicts": {
            name: {"ratio": found.median(number), "within": found.close(number)}
            for number, name in enumerate(report.optimizers)
        },
        "chosen": {
            name: found.chosen[number].tolist()
            for number, name in enumerate(report.optimizers)
            if name in report.grids
        },
    }


def _columns(axes: dict[str, Sequence[Any]]) -> dict[str, Any]:
    """One column for each axis of an array, one row for each of its elements."""
    import pyarrow as pa

    index = np.meshgrid(*(np.arange(len(axis)) for axis in axes.values()), indexing="ij")
    return {
        name: pa.array(np.asarray(axis)[numbers.ravel()])
        for (name, axis), numbers in zip(axes.items(), index, strict=True)
    }


def _write_parquet(report: Report, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    axes = (report.optimizers, report.tasks, report.seeds, report.eval_steps)
    columns = _columns(dict(zip(COLUMNS, axes, strict=False)))
    columns["train_loss"] = pa.array(report.train_loss.ravel())
    columns["test_loss"] = pa.array(report.test_loss.ravel())
    metadata = json.dumps(_finite(_about(report)), allow_nan=False).encode()
    pq.write_table(pa.table(columns).replace_schema_metadata({METADATA: metadata}), path)


def _write_trials(report: Report, path: Path) -> None:
    """One row for each tuned entry, trial, task, seed and step; no file where there are none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not report.trial_loss:
        path.unlink(missing_ok=True)
        return
    parts = []
    for name, losses in report.trial_loss.items():
        axes = (range(len(losses)), report.tasks, report.seeds, report.eval_steps)
        columns = _columns(dict(zip(("trial", *COLUMNS[1:4]), axes, strict=True)))
        parts.append(pa.table({"optimizer": pa.array([name] * losses.size)} | columns))
        parts[-1] = parts[-1].append_column("train_loss", pa.array(losses.ravel()))
        if report.validation is not None:
            test = report.trial_test_loss[name].ravel()
            parts[-1] = parts[-1].append_column("test_loss", pa.array(test))
    pq.write_table(pa.concat_tables(parts), path)


def _read_trials(report: Report, path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The training and test curves of all trials; of results of older versions none, or no test."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        return {}, {}
    shape = (len(report.tasks), len(report.seeds), len(report.eval_steps))
    try:
        table = pq.read_table(path)
        names = table["optimizer"].to_numpy()
        rows = {name: names == name for name in dict.fromkeys(names)}

        def curves(split: str) -> dict[str, np.ndarray]:
            losses = table[split].to_numpy()
            return {
                name: losses[of].reshape(len(report.grids[name].trials), *shape)
                for name, of in rows.items()
            }

        known = "test_loss" in table.column_names
        return curves("train_loss"), curves("test_loss") if known else {}
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise ResultsError(
            f"{path}: does not belong to {RESULTS}, or damaged ({error}); evaluate again"
        ) from error


def _grid(saved: dict[str, Any]) -> Grid:
    """As it was saved, by this version or by one that had grids of learning rates only."""
    if "learning_rates" in saved:
        rates = saved["learning_rates"]
        saved = saved | {
            "trials": [{"learning_rate": rate} for rate in rates],
            "chosen": [rates.index(rate) for rate in saved["chosen"]],
        }
    return Grid(
        trials=tuple(saved["trials"]),
        chosen=tuple(saved["chosen"]),
        final_loss=tuple(tuple(row) for row in saved["final_loss"]),
        seconds=tuple(tuple(row) for row in saved.get("seconds", ())),
    )


def _read_parquet(path: Path) -> Report:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise ResultsError(f"{path}: no such file; 'learned-opt evaluate' writes it")
    try:
        table = pq.read_table(path)
        about = json.loads((table.schema.metadata or {})[METADATA])
        shape = tuple(len(about[axis]) for axis in ("optimizers", "tasks", "seeds", "eval_steps"))
        for array in ("lower_bound", "diverged", "seconds_per_step"):
            dtype = bool if array == "diverged" else np.float64
            about[array] = np.asarray(about[array], dtype)
        for axis in ("optimizers", "tasks", "seeds", "eval_steps"):
            about[axis] = tuple(about[axis])
        about["grids"] = {name: _grid(saved) for name, saved in about["grids"].items()}
        train, test = (table[name].to_numpy().reshape(shape) for name in LOSSES)
        return Report(**about, train_loss=train, test_loss=test)
    except (pa.ArrowException, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ResultsError(
            f"{path}: not results of learned-opt, or damaged ({error}); evaluate again"
        ) from error
