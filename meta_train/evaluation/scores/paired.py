"""Two optimizers compared over the tasks of a suite, on their final losses."""

from typing import NamedTuple

import numpy as np
from scipy.stats import binom, rankdata

from meta_train.evaluation import stats
from meta_train.evaluation.stats import Interval

ALIKE = 0.01  # tasks on which two end this close (relative) are a tie


class Comparison(NamedTuple):
    """One optimizer against another; below 1 and above one half are for the first."""

    wins: int  # tasks
    ties: int
    losses: int
    sign_p: float  # two-sided exact sign test, ties left out
    wilcoxon_p: float  # two-sided exact signed-rank test on the logarithms of the ratios
    ratio: float  # final loss over the other's: interquartile mean of its logarithm over runs
    ratio_interval: Interval  # resampling tasks, and seeds within each
    improvement: float  # P(a run of the first ends lower), mean over tasks; ties count one half


def compare(
    final: np.ndarray, diverged: np.ndarray, other_final: np.ndarray, other_diverged: np.ndarray
) -> Comparison:
    """All arrays [task, seed]; final losses as Scores.final.

    Runs are paired by seed for the ratio, which is undefined where a loss is not positive: there
    only wins, ties, losses and the probability count the task. Nothing is dropped for divergence.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where((final > 0) & (other_final > 0), np.log(final / other_final), np.nan)
    logs = np.where(diverged & other_diverged, 0.0, logs)
    relative = _relative(final, other_final)
    relative = np.where(diverged ^ other_diverged, np.where(diverged, 1.0, -1.0), relative)
    relative = np.where(diverged & other_diverged, 0.0, relative).mean(axis=1)
    gaps = np.where(np.isnan(logs).any(axis=1), relative, logs.mean(axis=1))
    wins, losses = int((gaps < -ALIKE).sum()), int((gaps > ALIKE).sum())
    ranked, defined = gaps[~np.isnan(logs).any(axis=1)], logs[~np.isnan(logs)]
    low, high = np.exp(stats.bootstrap(logs))
    return Comparison(
        wins=wins,
        ties=len(gaps) - wins - losses,
        losses=losses,
        sign_p=float(min(1.0, 2.0 * binom.cdf(min(wins, losses), wins + losses, 0.5))),
        wilcoxon_p=signed_rank_p(ranked),
        ratio=float(np.exp(stats.iqm(defined))) if defined.size else float("nan"),
        ratio_interval=Interval(float(low), float(high)),
        improvement=probability_of_improvement(final, diverged, other_final, other_diverged),
    )


def _relative(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Difference over the larger size; 0 for equal ones."""
    size = np.maximum(np.abs(one), np.abs(other))
    return (one - other) / np.where(size > 0, size, 1.0)


def signed_rank_p(gaps: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, zeros left out, exact with ties: [task]."""
    gaps = gaps[gaps != 0]
    ranks = (2 * rankdata(np.abs(gaps))).astype(int)  # doubled: ties have half ranks
    chance = np.ones(1)  # of each sum of the ranks of positive gaps
    for rank in ranks:
        chance = 0.5 * (np.pad(chance, (0, rank)) + np.pad(chance, (rank, 0)))
    found = int(ranks[gaps > 0].sum())
    return float(min(1.0, 2.0 * min(chance[: found + 1].sum(), chance[found:].sum())))


def probability_of_improvement(
    final: np.ndarray, diverged: np.ndarray, other_final: np.ndarray, other_diverged: np.ndarray
) -> float:
    """Mean over tasks of P(a run ends below one of the other), all [task, seed]; ties one half.

    The Mann-Whitney statistic over the number of pairs; a diverged run loses to all but another.
    """
    mine = np.where(diverged, np.inf, final)[:, :, None]
    theirs = np.where(other_diverged, np.inf, other_final)[:, None, :]
    tie = np.isclose(mine, theirs, rtol=stats.TIE, atol=0.0)
    return float(np.where(tie, 0.5, mine < theirs).mean())
