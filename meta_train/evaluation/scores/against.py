"""Every run against the yardstick: final loss, time to target, and the two kinds of speedup."""

from typing import NamedTuple

import numpy as np

from meta_train.evaluation import stats
from meta_train.evaluation.stats import Curves


class Scores(NamedTuple):
    """Every run, [optimizer, task, seed], against the yardstick's of the same task and seed.

    Where the yardstick's run diverged there is nothing to reach: all but `final` are NaN there.
    """

    final: np.ndarray  # last loss, above the bound where there is one; a diverged run: its limit
    ratio: np.ndarray  # `final` over the yardstick's; NaN where one of them is not positive
    steps: np.ndarray  # until the yardstick's final loss is reached; inf: censored, not within T
    speedup: np.ndarray  # over the best single setting: T / `steps`; 0: never
    envelope_speedup: np.ndarray  # over the lower envelope of all settings; NaN: not recorded


def score(
    curves: Curves,
    bound: np.ndarray,
    diverged: np.ndarray,
    eval_steps: np.ndarray,
    yardstick: int,
    trials: np.ndarray | None = None,
) -> Scores:
    """Scores of all runs against those of optimizer number `yardstick`.

    curves: [optimizer, task, seed, point]; bound: [task, seed], NaN where a task declares none;
    diverged: [optimizer, task, seed]; eval_steps: [point]; trials: [trial, task, seed, point], all
    settings of the yardstick. Curves of bounded tasks are smoothed and interpolated as logarithms
    of the loss above the bound, others as they are. A diverged run counts with the limit it
    crossed.
    """
    lower = np.broadcast_to(bound, curves.shape[:-1])
    height = stats.heights(curves, lower, diverged)
    final = height[..., -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = final / final[yardstick]
    smoothed = stats.scored_curves(height, lower)
    target = stats.as_target(smoothed[yardstick, ..., -1], bound)
    steps = stats.steps_to_reach(smoothed, eval_steps, np.broadcast_to(target, final.shape))
    steps = np.where(diverged, np.inf, steps)
    # The target is what it has after all its steps; only noise takes it there before.
    steps[yardstick] = eval_steps[-1]
    over_envelope = np.full(final.shape, np.nan)
    if trials is not None:
        over_envelope = envelope_speedup(smoothed, envelope(trials, bound), lower, eval_steps)
        over_envelope = np.where(diverged, 0.0, over_envelope)
    defined = ~diverged[yardstick]
    positive = (final > 0) & (final[yardstick] > 0)
    return Scores(
        final=final,
        ratio=np.where(positive & defined, ratio, np.nan),
        steps=np.where(defined, steps, np.nan),
        speedup=np.where(defined, eval_steps[-1] / steps, np.nan),
        envelope_speedup=np.where(defined, over_envelope, np.nan),
    )


def envelope(trials: np.ndarray, bound: np.ndarray) -> Curves:
    """The lowest loss that any setting has had so far: [task, point], as scored_curves.

    trials: [trial, task, seed, point]; bound: [task, seed]. Of each setting the mean over seeds of
    its smoothed curves counts, as far as it is finite; no single setting need follow the envelope.
    """
    lower = np.broadcast_to(bound, trials.shape[:-1])
    mean = stats.scored_curves(stats.excess(trials, lower), lower).mean(axis=2)
    return np.minimum.accumulate(np.fmin.reduce(mean, axis=0), axis=-1)


def envelope_speedup(
    smoothed: Curves, lowest: Curves, bound: np.ndarray, eval_steps: np.ndarray
) -> np.ndarray:
    """How many steps on the envelope a run's final loss is worth, over the run's own steps.

    smoothed: [optimizer, task, seed, point]; lowest: [task, point], the envelope; bound:
    [optimizer, task, seed]. The envelope ends where the runs end, so this stops at 1; a run that
    ends lower gets T over its steps to the envelope's end instead. 0: it ends above its start.
    """
    end = smoothed[..., -1]
    along = np.broadcast_to(lowest[:, None], smoothed.shape)
    worth = stats.steps_to_reach(along, eval_steps, stats.as_target(end, bound))
    target = stats.as_target(along[..., -1], bound)
    needed = stats.steps_to_reach(smoothed, eval_steps, target)
    whole = eval_steps[-1]
    behind = np.where(end < along[..., 0], np.minimum(worth, whole) / whole, 0.0)
    return np.where(end <= target, whole / needed, behind)
