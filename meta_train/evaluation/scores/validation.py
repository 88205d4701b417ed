"""The loss on data that no update saw, where each task takes the trial that ends lowest there."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from meta_train.evaluation import stats
from meta_train.evaluation.stats import Curves

CLOSE = 0.02  # relative; an end at most this far above the yardstick's is as good


class Trials(NamedTuple):
    """What an optimizer ran, both [trial, task, seed, point]; one trial where it is not tuned."""

    train: Curves
    test: Curves


class Validation(NamedTuple):
    """The ends of the runs on the test split, against the yardstick's.

    Tasks where a run of the yardstick diverged with every trial are not compared.
    """

    chosen: np.ndarray  # [optimizer, task] number of the trial
    loss: np.ndarray  # [optimizer, task, seed]
    diverged: np.ndarray  # [optimizer, task, seed]
    ratio: np.ndarray  # [optimizer, task] of means over seeds; NaN where one is not positive
    within: np.ndarray  # [optimizer, task] whether it ends at most CLOSE above the yardstick
    compared: int  # tasks

    def median(self, optimizer: int) -> float:
        """Of the ratio, over the tasks that have one."""
        known = self.ratio[optimizer, ~np.isnan(self.ratio[optimizer])]
        return float(np.median(known)) if known.size else float("nan")

    def close(self, optimizer: int) -> int:
        """How many tasks are within."""
        return int(self.within[optimizer].sum())


def validate(runs: Sequence[Trials], bound: np.ndarray, yardstick: int) -> Validation:
    """Chooses by the test loss and compares with optimizer number `yardstick`, chosen alike.

    runs: one for each optimizer; bound: [task, seed], NaN where a task declares none. A trial
    counts with the mean over its seeds, above the bound where there is one; one with a diverged
    seed is taken only where all have some, and such a run then counts with its limit.
    """
    ends = [_ends(trials, bound) for trials in runs]
    chosen, loss, diverged, height = (np.stack(part) for part in zip(*ends, strict=True))
    mean = height.mean(axis=-1)
    target, defined = mean[yardstick], ~diverged[yardstick].any(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(defined & (mean > 0) & (target > 0), mean / target, np.nan)
    return Validation(
        chosen=chosen,
        loss=loss,
        diverged=diverged,
        ratio=ratio,
        within=defined & (mean - target <= CLOSE * np.abs(target)),
        compared=int(defined.sum()),
    )


def _ends(
    trials: Trials, bound: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of the trial each task takes: its number [task]; loss, divergence, height [task, seed]."""
    lower = np.broadcast_to(bound, trials.test.shape[:-1])
    loss = trials.test[..., -1]
    diverged = stats.find_diverged(trials.train, lower) | ~np.isfinite(loss)
    height = stats.heights(trials.test, lower, diverged)[..., -1]
    chosen = np.where(diverged, np.inf, height).mean(axis=-1).argmin(axis=0)
    tasks = np.arange(len(chosen))
    return chosen, loss[chosen, tasks], diverged[chosen, tasks], height[chosen, tasks]
