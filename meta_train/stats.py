"""What learning curves say: final losses and time to target against a yardstick, with intervals."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.stats import trim_mean

# The moving average looks back over a twentieth of the run: decay 0.9 at 200 measurements.
WINDOW = 1 / 20
# A curve this close to its target (relative) has reached it: two that end alike are a tie.
TIE = 1e-4
# Below this part of the initial loss float32 no longer tells curves apart.
FLOOR = 1e-7
# A run that ends this many times above its initial loss has diverged.
EXPLOSION = 10.0

Curves = np.ndarray  # [..., point]


class Interval(NamedTuple):
    """A 95% percentile interval."""

    low: float
    high: float


class Scores(NamedTuple):
    """Every run against the yardstick's run on the same task with the same seed.

    Where the yardstick's run diverged there is nothing to reach: ratio and speedup are NaN.
    """

    # [optimizer, task, seed] final loss over the yardstick's; NaN: undefined. A diverged run counts
    # with the limit it crossed.
    ratio: np.ndarray
    # [optimizer, task, seed] steps / steps to the yardstick's final; 0: never; NaN: undefined
    speedup: np.ndarray


class Verdict(NamedTuple):
    """How one optimizer does over a suite."""

    ratio: float  # median over tasks of the geometric mean over seeds; NaN where none is defined
    speedup: float  # interquartile mean over tasks and seeds
    speedup_interval: Interval  # resampling tasks, and seeds within each
    reached: int  # tasks where at least half of the seeds reached the yardstick's final loss
    undefined: int  # runs left out of all the above, because the yardstick's diverged
    diverged: int  # runs
    cost: float  # median over tasks of seconds per step, over the yardstick's


def smooth(curves: Curves) -> Curves:
    """Exponential moving average over the last axis, bias-corrected: it starts at the first value.

    It looks back over WINDOW of the points; with 20 or fewer the curves stay as they are.
    """
    decay = max(0.0, 1.0 - 1.0 / (WINDOW * max(curves.shape[-1] - 1, 1)))
    smoothed = np.empty_like(curves, dtype=np.float64)
    average = np.zeros(curves.shape[:-1])
    for point in range(curves.shape[-1]):
        average = decay * average + (1.0 - decay) * curves[..., point]
        smoothed[..., point] = average / (1.0 - decay ** (point + 1))
    return smoothed


def excess(curves: Curves, bound: np.ndarray) -> Curves:
    """Loss above the lower bound, at least 1e-7 of its first value; NaN bound: the loss as it is.

    bound: [...], one for each curve.
    """
    above = curves - np.nan_to_num(bound)[..., None]
    floor = np.maximum(FLOOR * above[..., :1], np.finfo(np.float32).tiny)
    return np.where(np.isnan(bound)[..., None], curves, np.maximum(above, floor))


def divergence_limit(initial: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """The loss above which a run counts as diverged: ten times its start (its excess), plus 1."""
    base = np.nan_to_num(bound)
    return base + EXPLOSION * np.abs(initial - base) + 1.0


def find_diverged(curves: Curves, bound: np.ndarray) -> np.ndarray:
    """True for runs with a non-finite loss anywhere, or that end above divergence_limit.

    curves: [..., point]; bound: [...], NaN where there is none.
    """
    ends_high = ~(curves[..., -1] <= divergence_limit(curves[..., 0], bound))
    return ~np.isfinite(curves).all(axis=-1) | ends_high


def steps_to_reach(curves: Curves, eval_steps: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The first step at which a curve is at or below `target`, linear between points; inf: never.

    curves: [..., point]; eval_steps: [point]; target: [...]. A curve that starts there needs 1
    step.
    """
    below = curves <= target[..., None]
    point = np.argmax(below, axis=-1)
    before = np.maximum(point - 1, 0)
    high = np.take_along_axis(curves, before[..., None], -1)[..., 0]
    low = np.take_along_axis(curves, point[..., None], -1)[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(point > before, (high - target) / (high - low), 0.0)
    step = eval_steps[before] + np.nan_to_num(part) * (eval_steps[point] - eval_steps[before])
    return np.where(below.any(axis=-1), np.maximum(step, 1.0), np.inf)


def score(
    curves: Curves,
    bound: np.ndarray,
    diverged: np.ndarray,
    eval_steps: np.ndarray,
    yardstick: int,
) -> Scores:
    """Scores of all runs against those of optimizer number `yardstick`, paired by task and seed.

    curves: [optimizer, task, seed, point]; bound: [task, seed], NaN where a task declares none;
    diverged: [optimizer, task, seed]; eval_steps: [point]. Curves of bounded tasks are smoothed and
    interpolated as logarithms of the loss above the bound, others as they are. The ratio of an
    unbounded task is defined only where both losses are positive. Nothing is defined where the
    yardstick diverged.
    """
    bound = np.broadcast_to(bound, curves.shape[:-1])
    limit = divergence_limit(curves[..., 0], bound)
    # A diverged run stays at its limit, so that every later formula scores it, and badly.
    curves = np.where(diverged[..., None], limit[..., None], curves)
    height = excess(curves, bound)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = height[..., -1] / height[yardstick, ..., -1]
        positive = (height[..., -1] > 0) & (height[yardstick, ..., -1] > 0)
        smoothed = smooth(np.where(np.isnan(bound)[..., None], height, np.log(height)))
    target = smoothed[yardstick, ..., -1]
    target = target + TIE * np.where(np.isnan(bound[yardstick]), np.abs(target), 1.0)
    target = np.broadcast_to(target, smoothed.shape[:-1])
    steps = steps_to_reach(smoothed, eval_steps, target)
    defined = ~diverged[yardstick]
    return Scores(
        ratio=np.where(positive & defined, ratio, np.nan),
        speedup=np.where(defined, np.where(diverged, 0.0, eval_steps[-1] / steps), np.nan),
    )


def iqm(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Interquartile mean along an axis: the mean of the middle half."""
    return np.asarray(trim_mean(values, 0.25, axis=axis))


def geometric_mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """exp of the mean logarithm, without NaN; NaN where nothing is left."""
    counted = ~np.isnan(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(counted, np.log(np.where(counted, values, 1.0)), 0.0)
        return np.asarray(np.exp(logs.sum(axis) / counted.sum(axis)))


def bootstrap(
    values: np.ndarray,
    statistic: Callable[..., np.ndarray] = iqm,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """95% percentile interval of `statistic`, for claims about new tasks and new seeds.

    values: [task, seed], NaN where undefined. The unit is the task: tasks are drawn with
    replacement, and within each drawn task its defined seeds. statistic takes [resample, run] and
    `axis`. Both ends are NaN where nothing is defined.
    """
    values = np.sort(values[~np.isnan(values).all(axis=1)], axis=1)  # NaN comes last
    tasks, seeds = values.shape
    if not tasks:
        return Interval(float("nan"), float("nan"))
    defined = (~np.isnan(values)).sum(axis=1)
    rng = np.random.default_rng(seed)
    task = rng.integers(tasks, size=(resamples, tasks, 1))
    drawn = values[task, rng.integers(defined[task], size=(resamples, tasks, seeds))]
    replicates = statistic(drawn.reshape(resamples, -1), axis=1)
    low, high = np.percentile(replicates, [2.5, 97.5])
    return Interval(float(low), float(high))


def verdict(
    scores: Scores, diverged: np.ndarray, seconds: np.ndarray, optimizer: int, yardstick: int
) -> Verdict:
    """Sums up optimizer number `optimizer`.

    diverged: [optimizer, task, seed]; seconds: [optimizer, task], per step.
    """
    speedup = scores.speedup[optimizer]
    defined = ~np.isnan(speedup)
    reached = (speedup > 0).sum(axis=1) >= np.maximum(defined.sum(axis=1) / 2, 1)
    ratio = geometric_mean(scores.ratio[optimizer])
    return Verdict(
        ratio=float(np.nanmedian(ratio)) if np.isfinite(ratio).any() else float("nan"),
        speedup=float(iqm(speedup[defined])) if defined.any() else float("nan"),
        speedup_interval=bootstrap(speedup),
        reached=int(reached.sum()),
        undefined=int((~defined).sum()),
        diverged=int(diverged[optimizer].sum()),
        cost=float(np.median(seconds[optimizer] / seconds[yardstick])),
    )


def log_progress(initial: np.ndarray, final: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """How far below its start a run ended, lower is better; a diverged run counts 10.

    With a bound: log of (final - bound) over (initial - bound), -16 at the least; without (NaN):
    (final - initial) / max(|initial|, 1).
    """
    curves = np.stack([initial, final], axis=-1).astype(np.float64)
    diverged = find_diverged(curves, bound)
    height = excess(np.where(diverged[..., None], 1.0, curves), bound)
    plain = (height[..., 1] - height[..., 0]) / np.maximum(np.abs(height[..., 0]), 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(height[..., 1] / height[..., 0])
    return np.where(diverged, 10.0, np.where(np.isnan(bound), plain, logs))
