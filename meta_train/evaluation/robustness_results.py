"""The outcome of a sweep, its scores, and how it is kept: robustness_SWEEP.parquet and .json."""

import json
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from meta_train.evaluation import stats
from meta_train.evaluation.results import ResultsError

METADATA = b"learned_opt.robustness"
AXES = ("point", "optimizer", "task", "seed", "step")
OWN = "own"  # the point at which optimizers keep what they have by default
WORST = stats.EXPLOSION  # what a run that diverged counts as
NEAR = 2.0


class Summary(NamedTuple):
    """One optimizer over a sweep; losses are final over initial, geometric means."""

    reference: float  # at the reference point
    best: float
    best_point: str
    worst: float
    worst_point: str
    spread: float  # worst / reference
    near: int  # points within twice the reference
    diverged: int  # runs
    lowest: int  # pairs of a point and a task where no other optimizer ends lower


@dataclass(frozen=True, eq=False)
class Robustness:
    """Every run of every optimizer at every point of a sweep.

    train_loss is taken on the whole training split; diverged runs are kept as they were.
    """

    sweep: str
    about: str  # what is changed, in a sentence
    axis: str
    points: tuple[str, ...]
    reference: int  # number of the point the others are compared with
    optimizers: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    eval_steps: np.ndarray  # [point, measurement], the first is 0
    lower_bound: np.ndarray  # [point, task, seed]
    train_loss: np.ndarray  # [point, optimizer, task, seed, measurement]
    versions: dict[str, str]

    @cached_property
    def curves(self) -> np.ndarray:
        """Loss over its initial value, both above the lower bound; shape of train_loss."""
        bound = np.broadcast_to(self.lower_bound[:, None], self.train_loss.shape[:-1])
        with np.errstate(invalid="ignore"):
            height = stats.excess(self.train_loss, bound)
            return height / height[..., :1]

    @cached_property
    def diverged(self) -> np.ndarray:
        """[point, optimizer, task, seed]: a loss not finite, or an end above ten times the start.

        Relative to the start alone, so that it is the same in any units of the loss.
        """
        return ~np.isfinite(self.curves).all(axis=-1) | (self.curves[..., -1] > WORST)

    @cached_property
    def final(self) -> np.ndarray:
        """[point, optimizer, task, seed]: final over initial loss; 10 where a run diverged."""
        return np.where(self.diverged, WORST, self.curves[..., -1])

    @property
    def by_task(self) -> np.ndarray:
        """[point, optimizer, task]: geometric mean of the seeds."""
        return stats.geometric_mean(self.final)

    @property
    def by_point(self) -> np.ndarray:
        """[point, optimizer]: geometric mean of tasks and seeds."""
        return stats.geometric_mean(self.by_task)

    @property
    def summaries(self) -> tuple[Summary, ...]:
        """One for each optimizer."""
        return tuple(self._summary(number) for number in range(len(self.optimizers)))

    def _summary(self, optimizer: int) -> Summary:
        own, tasks = self.by_point[:, optimizer], self.by_task
        best, worst = int(np.argmin(own)), int(np.argmax(own))
        return Summary(
            reference=float(own[self.reference]),
            best=float(own[best]),
            best_point=self.points[best],
            worst=float(own[worst]),
            worst_point=self.points[worst],
            spread=float(own[worst] / own[self.reference]),
            near=int((own <= NEAR * own[self.reference]).sum()),
            diverged=int(self.diverged[:, optimizer].sum()),
            lowest=int((tasks[:, optimizer] <= tasks.min(axis=1)).sum()),
        )

    def save(self, folder: Path) -> None:
        """Writes robustness_SWEEP.parquet (all curves) and .json (scores) into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        _write_parquet(self, folder / f"robustness_{self.sweep}.parquet")
        scores = {
            "summaries": {
                name: summary._asdict()
                for name, summary in zip(self.optimizers, self.summaries, strict=True)
            },
            "final_over_initial": self.by_task.tolist(),
            "diverged": self.diverged.sum(axis=-1).tolist(),
        }
        text = json.dumps(_about(self) | scores, indent=1, allow_nan=False)
        path = folder / f"robustness_{self.sweep}.json"
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Robustness":
        """Reads the parquet file back. Raises ResultsError where that is not possible."""
        return _read_parquet(path)


def _about(outcome: Robustness) -> dict[str, Any]:
    """Everything but the curves."""
    about = {field.name: getattr(outcome, field.name) for field in fields(outcome)}
    del about["train_loss"]
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in about.items()}


def _write_parquet(outcome: Robustness, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    index = np.indices(outcome.train_loss.shape).reshape(len(AXES), -1)
    named = (outcome.points, outcome.optimizers, outcome.tasks, outcome.seeds)
    columns: dict[str, Any] = {
        name: pa.array(np.asarray(axis)[at])
        for name, axis, at in zip(AXES, named, index, strict=False)
    }
    columns["step"] = pa.array(outcome.eval_steps[index[0], index[-1]])
    columns["train_loss"] = pa.array(outcome.train_loss.ravel())
    metadata = json.dumps(_about(outcome), allow_nan=False).encode()
    pq.write_table(pa.table(columns).replace_schema_metadata({METADATA: metadata}), path)


def _read_parquet(path: Path) -> Robustness:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise ResultsError(f"{path}: no such file; 'learned-opt robustness' writes it")
    try:
        table = pq.read_table(path)
        about = json.loads((table.schema.metadata or {})[METADATA])
        shape = (*(len(about[name]) for name in ("points", "optimizers", "tasks", "seeds")), -1)
        for name, value in about.items():
            if name in ("eval_steps", "lower_bound"):
                about[name] = np.asarray(value)
            elif isinstance(value, list):
                about[name] = tuple(value)
        return Robustness(**about, train_loss=table["train_loss"].to_numpy().reshape(shape))
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ResultsError(
            f"{path}: not a sweep of learned-opt, or damaged ({error}); run it again"
        ) from error
