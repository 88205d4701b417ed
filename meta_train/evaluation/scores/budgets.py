"""What tuning is worth: one setting for all tasks against k trials for each (2009.11243)."""

from typing import NamedTuple

import numpy as np
from scipy.special import comb

from meta_train.evaluation import stats

TRIALS = (1, 3, 10)


class Budget(NamedTuple):
    """What an optimizer reaches with so many trials."""

    optimizer: str
    name: str
    ratio: np.ndarray  # [task] final loss over the yardstick's, without undefined tasks


def trial_ratios(trials: np.ndarray, bound: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Final loss of each setting over the yardstick's, geometric mean over seeds: [trial, task].

    trials: [trial, task, seed, point] losses; bound: [task, seed]; reference: [task, seed], the
    yardstick's Scores.final. A diverged run counts with its limit; NaN where a loss is not
    positive.
    """
    lower = np.broadcast_to(bound, trials.shape[:-1])
    final = stats.heights(trials, lower, stats.find_diverged(trials, lower))[..., -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where((final > 0) & (reference > 0), np.log(final / reference), np.nan)
    return np.exp(logs.mean(axis=-1))


def best_of(ratios: np.ndarray, trials: int) -> np.ndarray:
    """Expected (geometric) best of `trials` settings drawn without replacement: [task].

    ratios: [setting, task].
    """
    count = len(ratios)
    ranks = np.arange(count)
    chance = comb(count - 1 - ranks, trials - 1) / comb(count, trials)
    return np.exp(chance @ np.log(np.sort(ratios, axis=0)))


def budgets(name: str, ratios: np.ndarray) -> list[Budget]:
    """One setting for all tasks, then 1, 3, 10 and all trials for each; ratios: [setting, task].

    The one setting is that of the least geometric mean over the tasks it is reported on. An
    optimizer that ran with one setting has that only.
    """
    ratios = ratios[:, np.isfinite(ratios).all(axis=0)]
    if not ratios.size:
        return []
    count = len(ratios)
    one = ratios[int(np.argmin(np.log(ratios).mean(axis=1)))]
    numbers = [*(k for k in TRIALS if k < count), count] if count > 1 else []
    return [
        Budget(name, f"{name}, one setting", one),
        *(Budget(name, per_task(name, k), best_of(ratios, k)) for k in numbers),
    ]


def per_task(name: str, trials: int) -> str:
    """How a budget of so many trials for each task is called."""
    return f"{name}, {trials} trial{'s' * (trials > 1)} a task"
