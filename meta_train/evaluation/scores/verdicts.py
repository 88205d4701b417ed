"""How one optimizer does over a suite: one line of the score table."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from meta_train.evaluation import stats
from meta_train.evaluation.scores import paired, profiles
from meta_train.evaluation.scores.against import Scores
from meta_train.evaluation.stats import Interval


class Verdict(NamedTuple):
    """Failures first: no mean below hides them."""

    diverged: int  # runs
    failed: int  # tasks where less than half of the seeds reach the yardstick's final loss
    reached: int  # tasks where at least half do
    undefined: int  # runs left out of what follows, because the yardstick's diverged
    ratio: float  # final loss: median over tasks of the geometric mean over seeds
    worst_ratio: float  # the highest of the tasks
    speedup: float  # over the best single setting: interquartile mean over tasks and seeds
    speedup_interval: Interval  # resampling tasks, and seeds within each
    speedup_interval_seeds: Interval  # resampling seeds only: for these tasks
    gap: float  # optimality gap: mean of max(0, 1 - speedup)
    gap_interval: Interval  # resampling tasks, and seeds within each
    gap_interval_seeds: Interval  # resampling seeds only
    envelope_speedup: float  # over the lower envelope, interquartile mean; NaN: not recorded
    envelope_interval: Interval  # resampling tasks, and seeds within each
    wall_clock_speedup: float  # interquartile mean of speedup over the relative time per step
    wall_clock_interval: Interval  # resampling tasks, and seeds within each
    area: float  # AlgoPerf's score among these optimizers, by steps
    wall_clock_area: float  # by seconds
    improvement: float  # probability to end below the yardstick
    cost: float  # median over tasks of seconds per step, over the yardstick's
    cost_range: Interval  # of the tasks: the lowest and the highest


def verdicts(
    scores: Scores, diverged: np.ndarray, seconds: np.ndarray, yardstick: int
) -> tuple[Verdict, ...]:
    """One for each optimizer; values are NaN where nothing is defined.

    diverged: [optimizer, task, seed]; seconds: [optimizer, task], per step.
    """
    areas = profiles.area(profiles.time_ratios(scores.steps))
    clock = profiles.area(profiles.time_ratios(scores.steps * seconds[..., None]))
    return tuple(
        _verdict(scores, diverged, seconds, optimizer, yardstick)._replace(
            area=float(areas[optimizer]), wall_clock_area=float(clock[optimizer])
        )
        for optimizer in range(len(diverged))
    )


def _iqm(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(stats.iqm(defined)) if defined.size else float("nan")


def _verdict(
    scores: Scores, diverged: np.ndarray, seconds: np.ndarray, optimizer: int, yardstick: int
) -> Verdict:
    speedup, over_envelope = scores.speedup[optimizer], scores.envelope_speedup[optimizer]
    defined = ~np.isnan(speedup)
    compared = defined.any(axis=1)
    reached = compared & ((speedup > 0).sum(axis=1) >= defined.sum(axis=1) / 2)
    ratio = stats.geometric_mean(scores.ratio[optimizer])
    ratio = ratio[~np.isnan(ratio)]
    cost = seconds[optimizer] / seconds[yardstick]
    wall_clock = speedup / cost[:, None]
    runs = (scores.final[optimizer], diverged[optimizer])
    against = (scores.final[yardstick], diverged[yardstick])
    return Verdict(
        diverged=int(diverged[optimizer].sum()),
        failed=int((compared & ~reached).sum()),
        reached=int(reached.sum()),
        undefined=int((~defined).sum()),
        ratio=float(np.median(ratio)) if ratio.size else float("nan"),
        worst_ratio=float(ratio.max()) if ratio.size else float("nan"),
        speedup=_iqm(speedup),
        speedup_interval=stats.bootstrap(speedup),
        speedup_interval_seeds=stats.bootstrap(speedup, over="seeds"),
        gap=float(stats.optimality_gap(speedup[defined])) if defined.any() else float("nan"),
        gap_interval=stats.bootstrap(speedup, stats.optimality_gap),
        gap_interval_seeds=stats.bootstrap(speedup, stats.optimality_gap, over="seeds"),
        envelope_speedup=_iqm(over_envelope),
        envelope_interval=stats.bootstrap(over_envelope),
        wall_clock_speedup=_iqm(wall_clock),
        wall_clock_interval=stats.bootstrap(wall_clock),
        area=float("nan"),
        wall_clock_area=float("nan"),
        improvement=paired.probability_of_improvement(*runs, *against),
        cost=float(np.median(cost)),
        cost_range=Interval(float(cost.min()), float(cost.max())),
    )


def ranking(found: Sequence[Verdict]) -> list[int]:
    """Numbers of the optimizers, best first: by speedup, then gap, loss ratio, failures."""

    def key(number: int) -> tuple[float, ...]:
        v = found[number]
        order = (-v.speedup, v.gap, v.ratio)
        return (*(np.inf if np.isnan(part) else part for part in order), v.diverged)

    return sorted(range(len(found)), key=key)
