"""Searches the hyperparameters of an optimizer over a suite: the best for all tasks, and for each.

The score of a setting is TaskSet's (arXiv:2002.11887): on every task the initial training loss
becomes 1 and the lowest that any setting ever reached 0, clipped to that range, with 1 for what is
not finite; then the mean over the run, the seeds and the tasks. Lower is better.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from learned_opt.files import write_json
from meta_train.evaluation.entries import Entry, find_rule, setting
from meta_train.evaluation.evaluate import Report, Session, evaluate
from meta_train.evaluation.results import TUNED
from meta_train.evaluation.search_spaces import Trial, find_trials


@dataclass(frozen=True, eq=False)
class Tuned:
    """What a search found.

    report: of the optimizer tuned per task, with the curves of all trials. scores: [trial].
    """

    optimizer: str
    space: str
    report: Report
    scores: np.ndarray

    @property
    def trials(self) -> tuple[Trial, ...]:
        return next(iter(self.report.grids.values())).trials

    @property
    def best(self) -> int:
        """Number of the best trial over the suite."""
        return int(np.argmin(self.scores))

    def about(self) -> dict[str, Any]:
        """As JSON takes it."""
        grid = next(iter(self.report.grids.values()))
        chosen = zip(self.report.tasks, grid.chosen, grid.final_loss, strict=True)
        return {
            "optimizer": self.optimizer,
            "space": self.space,
            "suite": self.report.suite,
            "fingerprint": self.report.fingerprint,
            "seeds": list(self.report.seeds),
            "steps": self.report.eval_steps[-1],
            "best": {"trial": self.best, "score": self.scores[self.best]} | self.trials[self.best],
            "best_per_task": {
                task: {"trial": number, "final_loss": finals[number]} | self.trials[number]
                for task, number, finals in chosen
            },
            "trials": list(self.trials),
            "scores": self.scores.tolist(),
            "versions": self.report.versions,
        }

    def save(self, folder: Path) -> None:
        """Writes tune.json beside the files of the report."""
        self.report.save(folder)
        write_json(folder / "tune.json", self.about())


def entry_of(optimizer: str, space: str, trials: int | None = None) -> Entry:
    """The line of a report that a search fills. Raises ValueError."""
    rule = find_rule(optimizer)
    name = optimizer + TUNED if space == "learning_rate" else f"{optimizer} ({space})"
    return Entry(name, rule, setting(rule).theta, find_trials(space, rule, trials))


def tune(
    optimizer: str,
    suite: str,
    space: str = "learning_rate",
    trials: int | None = None,
    seeds: int = 3,
    steps: int | None = None,
    session: Session | None = None,
) -> Tuned:
    """Runs every trial on every task with every seed.

    optimizer: NAME or NAME+SCHEDULE of a hand-designed one. trials: None for as many as the space
    usually has. steps: None for the suite's. Raises ValueError, MissingData and Interrupted.
    """
    entry = entry_of(optimizer, space, trials)
    report = evaluate([entry], suite, seeds, steps, session=session)
    return Tuned(optimizer, space, report, normalised_scores(report.trial_loss[entry.name]))


def normalised_scores(losses: Float[np.ndarray, "trial task seed point"]) -> np.ndarray:
    """The score of each trial, between 0 and 1."""
    finite = np.where(np.isfinite(losses), losses, np.inf)
    start = finite[:1, :, :, :1]
    lowest = finite.min(axis=(0, 3), keepdims=True)
    span = np.where(start > lowest, start - lowest, 1.0)
    above = np.clip((finite - lowest) / span, 0.0, 1.0)
    return np.where(start > lowest, above, 1.0).mean(axis=(1, 2, 3))


def text(found: Tuned) -> str:
    """For a terminal: the best of all tasks and of each."""
    about = found.about()
    shown = lambda trial: ", ".join(f"{name} {_short(value)}" for name, value in trial.items())
    lines = [
        f"{found.optimizer}: {len(found.trials)} trials of space {found.space} on {about['suite']}",
        f"best over the suite: trial {found.best}, score {found.scores[found.best]:.4f}",
        f"  {shown(found.trials[found.best])}",
        "best for each task:",
    ]
    width = max(map(len, found.report.tasks))
    for task, best in about["best_per_task"].items():
        final = best["final_loss"]
        loss = "diverged" if final is None else f"{final:.4g}"
        lines.append(f"  {task:<{width}}  {loss:>10}  {shown(found.trials[best['trial']])}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
