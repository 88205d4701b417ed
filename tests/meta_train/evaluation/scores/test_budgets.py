from itertools import combinations

import numpy as np
import pytest

from meta_train.evaluation.scores.budgets import best_of, budgets, trial_ratios


def test_best_of_some_trials_is_the_mean_over_all_choices():
    ratios = np.random.default_rng(0).lognormal(size=(6, 3))
    for trials in (1, 2, 5, 6):
        logs = [np.log(ratios[list(c)]).min(axis=0) for c in combinations(range(6), trials)]
        assert best_of(ratios, trials) == pytest.approx(np.exp(np.mean(logs, axis=0)))


def test_one_setting_is_the_best_for_all_tasks_together():
    ratios = np.array([[1.0, 100.0, np.nan], [3.0, 3.0, 1.0], [100.0, 1.0, 1.0]])
    one, first, best = budgets("adam", ratios)
    assert [one.name, first.name, best.name] == [
        "adam, one setting",
        "adam, 1 trial a task",
        "adam, 3 trials a task",
    ]
    assert one.ratio.tolist() == [3.0, 3.0]
    assert first.ratio == pytest.approx([300 ** (1 / 3)] * 2)
    assert best.ratio.tolist() == [1.0, 1.0]
    assert [b.name for b in budgets("rule", ratios[1:2])] == ["rule, one setting"]


def test_trials_that_diverge_count_with_their_limit():
    trials = np.array([[[[1.0, 0.5]]], [[[1.0, np.nan]]]])
    found = trial_ratios(trials, np.zeros((1, 1)), np.array([[0.25]]))
    assert found.ravel().tolist() == pytest.approx([2.0, 11.0 / 0.25])
