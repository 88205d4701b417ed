"""Performance profiles: of runs, as rliable draws them; of tasks, with the area AlgoPerf scores."""

from typing import NamedTuple

import numpy as np

from meta_train.evaluation import stats

AREA_END = 4.0  # up to this many times the fastest


class Profile(NamedTuple):
    """Part of the runs whose score is above a threshold; all [threshold]."""

    part: np.ndarray
    low: np.ndarray  # 95% band, resampling tasks and seeds within each
    high: np.ndarray


def run_profile(values: np.ndarray, thresholds: np.ndarray) -> Profile:
    """Of scores [task, seed], NaN where undefined."""
    defined = values[~np.isnan(values)]
    if not defined.size:
        nothing = np.full(len(thresholds), np.nan)
        return Profile(nothing, nothing, nothing)
    drawn = stats.redraw(values)
    parts = np.stack([(drawn > threshold).mean(axis=1) for threshold in thresholds])
    low, high = np.percentile(parts, [2.5, 97.5], axis=1)
    return Profile((defined[:, None] > thresholds).mean(axis=0), low, high)


def time_ratios(times: np.ndarray) -> np.ndarray:
    """Times of each optimizer over those of the fastest one on the same task; inf: never there.

    times: [optimizer, task, seed], inf where the target was missed, NaN where there is none. A task
    counts with the median of its seeds; one without a target for any seed is left out:
    [optimizer, counted task].
    """
    counted = ~np.isnan(times).all(axis=(0, 2))
    typical = np.nanmedian(times[:, counted], axis=2)
    fastest = typical.min(axis=0)
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(typical), typical / fastest, np.inf)


def task_profile(ratios: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Part of the tasks with a ratio of at most each threshold: [..., threshold] of [..., task]."""
    if not ratios.shape[-1]:
        return np.full((*ratios.shape[:-1], len(thresholds)), np.nan)
    return (ratios[..., None] <= thresholds).mean(axis=-2)


def area(ratios: np.ndarray) -> np.ndarray:
    """Area under task_profile from 1 to 4 over its width: AlgoPerf's score, 0 to 1.

    It is relative to the optimizers it is computed with. ratios: [..., task]. The area is exact:
    every task adds the part of the range that lies above its ratio.
    """
    if not ratios.shape[-1]:
        return np.full(ratios.shape[:-1], np.nan)
    return np.clip((AREA_END - ratios) / (AREA_END - 1.0), 0.0, 1.0).mean(axis=-1)
