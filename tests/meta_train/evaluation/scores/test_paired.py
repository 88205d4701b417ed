import numpy as np
import pytest
from scipy.stats import binomtest, mannwhitneyu, wilcoxon

from meta_train.evaluation.scores.paired import compare, probability_of_improvement, signed_rank_p

RNG = np.random.default_rng(0)


def fine(losses):
    return np.zeros(losses.shape, bool)


def test_wins_ties_and_losses():
    other = np.full((5, 2), 2.0)
    mine = other * np.array([0.5, 0.8, 0.9, 1.001, 3.0])[:, None]
    found = compare(mine, fine(mine), other, fine(other))
    assert (found.wins, found.ties, found.losses) == (3, 1, 1)
    assert found.sign_p == pytest.approx(binomtest(3, 4).pvalue)
    logs = np.log([0.5, 0.8, 0.9, 1.001, 3.0])
    assert found.wilcoxon_p == pytest.approx(wilcoxon(logs, method="exact").pvalue)
    runs = np.sort(np.repeat(logs, 2))[2:8]
    assert found.ratio == pytest.approx(np.exp(runs.mean()))
    assert found.ratio_interval.low < found.ratio < found.ratio_interval.high


def test_the_other_way_round_it_is_the_other_way_round():
    one, two = RNG.lognormal(size=(2, 6, 3))
    found, back = compare(one, fine(one), two, fine(two)), compare(two, fine(two), one, fine(one))
    assert (found.wins, found.losses) == (back.losses, back.wins)
    assert found.sign_p == back.sign_p and found.wilcoxon_p == pytest.approx(back.wilcoxon_p)
    assert found.ratio * back.ratio == pytest.approx(1.0)
    assert found.improvement + back.improvement == pytest.approx(1.0)


def test_a_diverged_run_loses_and_two_of_them_tie():
    losses, others = np.array([[1.0], [11.0], [11.0]]), np.array([[1.0], [5.0], [21.0]])
    gone = np.array([[False], [True], [True]])
    found = compare(losses, gone, others, others > 20.0)
    assert (found.wins, found.ties, found.losses) == (0, 2, 1)
    assert found.improvement == pytest.approx((0.5 + 0.0 + 0.5) / 3)


def test_losses_that_are_not_positive_count_but_have_no_ratio():
    mine, other = np.array([[-3.0], [1.0]]), np.array([[-1.0], [2.0]])
    found = compare(mine, fine(mine), other, fine(other))
    assert (found.wins, found.losses, found.improvement) == (2, 0, 1.0)
    assert found.ratio == pytest.approx(0.5)
    nothing = compare(-mine[:1], fine(mine[:1]), other[:1], fine(other[:1]))
    assert np.isnan(nothing.ratio) and nothing.losses == 1 and nothing.wilcoxon_p == 1.0


def test_the_signed_rank_test_is_exact():
    for size in (1, 5, 12):
        gaps = RNG.normal(0.4, 1.0, size)
        assert signed_rank_p(gaps) == pytest.approx(wilcoxon(gaps, method="exact").pvalue)
    # Ties: midranks 1.5, 1.5, 3; the sum of the positive ones is 4.5 or more in 3 of 8 cases.
    assert signed_rank_p(np.array([0.0, 1.0, -1.0, 2.0])) == pytest.approx(0.75)
    assert signed_rank_p(np.zeros(3)) == 1.0


def test_the_probability_of_improvement_is_mann_whitneys():
    one, two = RNG.normal(size=(4, 7)), RNG.normal(0.5, 1.0, size=(4, 7))
    expected = [1.0 - mannwhitneyu(a, b).statistic / 49 for a, b in zip(one, two, strict=True)]
    found = probability_of_improvement(one, fine(one), two, fine(two))
    assert found == pytest.approx(np.mean(expected))
    assert probability_of_improvement(one, fine(one), one, ~fine(one)) == 1.0
