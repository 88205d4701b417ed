"""What learning curves say: loss above a bound, divergence, time to reach; means and intervals."""

from collections.abc import Callable
from typing import Literal, NamedTuple

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
Over = Literal["tasks", "seeds"]


class Interval(NamedTuple):
    """A 95% percentile interval."""

    low: float
    high: float


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


def best(curves: Curves) -> np.ndarray:
    """The lowest finite loss along each run, NaN where there is none: [...] of [..., point]."""
    lowest = np.where(np.isfinite(curves), curves, np.inf).min(axis=-1)
    return np.where(np.isfinite(lowest), lowest, np.nan)


def heights(curves: Curves, bound: np.ndarray, diverged: np.ndarray) -> Curves:
    """The excess of every run; a diverged run stays at its limit, so that formulas score it badly.

    curves: [..., point]; bound and diverged: [...].
    """
    limit = divergence_limit(curves[..., 0], bound)
    return excess(np.where(diverged[..., None], limit[..., None], curves), bound)


def scored_curves(height: Curves, bound: np.ndarray) -> Curves:
    """What times are read from: smoothed heights, as logarithms where there is a bound."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return smooth(np.where(np.isnan(bound)[..., None], height, np.log(height)))


def as_target(level: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """A level of scored_curves, raised by what counts as a tie."""
    return level + TIE * np.where(np.isnan(bound), np.abs(level), 1.0)


def iqm(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Interquartile mean along an axis: the mean of the middle half."""
    return np.asarray(trim_mean(values, 0.25, axis=axis))


def geometric_mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """exp of the mean logarithm, without NaN; NaN where nothing is left."""
    counted = ~np.isnan(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(counted, np.log(np.where(counted, values, 1.0)), 0.0)
        return np.asarray(np.exp(logs.sum(axis) / counted.sum(axis)))


def optimality_gap(values: np.ndarray, axis: int = 0, goal: float = 1.0) -> np.ndarray:
    """Mean shortfall from the goal, along an axis; nothing above the goal makes up for it."""
    return np.asarray(np.maximum(0.0, goal - values).mean(axis=axis))


def redraw(
    values: np.ndarray, over: Over = "tasks", resamples: int = 2000, seed: int = 0
) -> np.ndarray:
    """Bootstrap samples [resample, run] of values [task, seed], NaN where undefined.

    over "tasks", for claims about new tasks: tasks are drawn with replacement, and within each
    drawn task its defined seeds. Over "seeds", for claims about these tasks only (stratified): all
    tasks stay, and within each its seeds are drawn.
    """
    values = np.sort(values[~np.isnan(values).all(axis=1)], axis=1)  # NaN comes last
    tasks, seeds = values.shape
    if not tasks:
        return np.zeros((resamples, 0))
    defined = (~np.isnan(values)).sum(axis=1)
    rng = np.random.default_rng(seed)
    shape = (resamples, tasks, 1)
    kept = np.broadcast_to(np.arange(tasks)[:, None], shape)
    task = rng.integers(tasks, size=shape) if over == "tasks" else kept
    drawn = values[task, rng.integers(defined[task], size=(resamples, tasks, seeds))]
    return drawn.reshape(resamples, -1)


def bootstrap(
    values: np.ndarray,
    statistic: Callable[..., np.ndarray] = iqm,
    over: Over = "tasks",
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """95% percentile interval of `statistic` over `redraw`.

    statistic takes [resample, run] and `axis`. Both ends are NaN where nothing is defined.
    """
    drawn = redraw(values, over, resamples, seed)
    if not drawn.size:
        return Interval(float("nan"), float("nan"))
    low, high = np.percentile(statistic(drawn, axis=1), [2.5, 97.5])
    return Interval(float(low), float(high))


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
