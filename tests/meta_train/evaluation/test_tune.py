"""What is tried, what is called best, and what the command prints and keeps."""

import json

import numpy as np
import pytest

from learned_opt.registry import HAND_DESIGNED
from meta_train.cli import main
from meta_train.evaluation import curve_cache
from meta_train.evaluation.nadamw_list import LINES, configuration
from meta_train.evaluation.results import Report
from meta_train.evaluation.search_spaces import SPACES, find_trials
from meta_train.evaluation.tune import normalised_scores

FITTING = {"nadamw": "nadamw_optlist", "opt_list": "nadamw_optlist"}


@pytest.mark.parametrize("space", SPACES)
def test_fewer_trials_are_the_beginning_of_more_and_all_are_allowed(space):
    rule = HAND_DESIGNED[FITTING.get(space, "taskset_adam")]
    few, more = find_trials(space, rule, 3), find_trials(space, rule, 9)
    assert few == more[:3] and len(more) == 9
    assert len({json.dumps(trial) for trial in more}) == 9
    for trial in more:
        rule.check(trial)


def test_draws_stay_within_the_ranges_and_fill_them():
    trials = find_trials("adam8p", HAND_DESIGNED["taskset_adam"], 400)
    ranges = {
        "learning_rate": (1e-8, 10.0),
        "eps": (1e-10, 1e3),
        "linear_decay": (1e-7, 1e-4),
        "exponential_decay": (1e-6, 1e-3),
        "l1": (1e-8, 10.0),
        "l2": (1e-8, 10.0),
    }
    assert set(trials[0]) == set(ranges) | {"b1", "b2"}
    for name, (low, high) in ranges.items():
        place = [np.log(trial[name] / low) / np.log(high / low) for trial in trials]
        assert 0 <= min(place) < 0.02 and 0.98 < max(place) <= 1
        assert np.mean(place) == pytest.approx(0.5, abs=0.05)
    for name, least in (("b1", 1e-4), ("b2", 1e-6)):
        place = [np.log(1 - trial[name]) / np.log(least) for trial in trials]
        assert 0 <= min(place) < 0.02 and 0.98 < max(place) <= 1 + 1e-9


def test_all_draws_every_control_of_the_entry():
    rule = HAND_DESIGNED["sgd"]
    for trial in find_trials("all", rule, 20):
        assert set(trial) == set(rule.controls)
        for name, value in trial.items():
            assert rule.controls[name].low <= value <= rule.controls[name].high


def test_the_first_draws_are_the_same_on_every_machine():
    first = find_trials("adam1p", HAND_DESIGNED["adam"], 3)
    expected = [0.006231739865473792, 4.828552420012901e-05, 1.751741812405775]
    assert [trial["learning_rate"] for trial in first] == pytest.approx(expected, rel=1e-9)


def test_the_grid_grows_around_the_default():
    sgd = HAND_DESIGNED["sgd"]
    assert [t["learning_rate"] for t in find_trials("learning_rate", sgd, 4)] == [
        0.01,
        0.0316,
        0.00316,
        0.1,
    ]
    assert len(find_trials("learning_rate", HAND_DESIGNED["adam"])) == 15


def test_the_list_begins_as_published():
    assert len(LINES) == 100
    assert configuration(0) == pytest.approx(
        {
            "learning_rate": 1.1948e-3,
            "b1": 0.936004,
            "b2": 0.9989497,
            "eps": 5.8758e-6,
            "weight_decay": 1.0142e-2,
            "l2": 0.0,
            "warmup_fraction": 0.0,
            "constant_fraction": 0.7473,
            "final_fraction": 0.0,
            "nesterov": False,
            "published_l2": True,
        },
        rel=1e-5,
    )


def test_scores_against_a_computation_by_hand():
    """[trial, task, seed, point]; the start is 4 and 2, the lowest ever 0 and 1."""
    losses = np.array(
        [
            [[[4.0, 2.0, 0.0]], [[2.0, 2.0, 2.0]]],
            [[[4.0, 8.0, np.nan]], [[2.0, 1.5, 1.0]]],
        ]
    )
    expected = [(0.5 + 1.0) / 2, (1.0 + 0.5) / 2]
    np.testing.assert_allclose(normalised_scores(losses), expected)
    np.testing.assert_array_equal(normalised_scores(np.full((2, 1, 1, 3), 3.0)), [1.0, 1.0])


def test_the_command_prints_and_keeps_the_best(tmp_path, capsys, small_suite):
    out = tmp_path / "out"
    given = ["tune", "sgd", "--suite", small_suite, "--seeds", "2", "--steps", "4"]
    assert main([*given, "--trials", "5", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "5 run(s) to go" in printed.err and "best over the suite: trial" in printed.out
    found = json.loads((out / "tune.json").read_text())
    report = Report.load(out)
    losses = report.trial_loss["sgd (tuned)"]
    assert losses.shape == (5, 1, 2, 5)
    finals = losses[:, 0, :, -1].mean(axis=1)
    best = found["best_per_task"]["bowl"]
    assert best["final_loss"] == finals.min() and best["trial"] == finals.argmin()
    assert found["best"]["score"] == min(found["scores"]) == normalised_scores(losses).min()
    assert found["trials"][best["trial"]]["learning_rate"] == best["learning_rate"]
    assert main([*given, "--trials", "6", "--out", str(out)]) == 0
    assert "1 run(s) to go" in capsys.readouterr().err
    assert any(curve_cache.default_cache().folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sgdd"], "did you mean sgd"),
        (["adam+cosin"], "did you mean cosine"),
        (["sgd", "--space", "al"], "did you mean all"),
        (["sgd", "--space", "adam4p"], "sgd.b1: unknown hyperparameter"),
        (["nadamw_optlist", "--space", "opt_list", "--trials", "101"], "opt_list has 100"),
        (["sophia_h"], "obj_fn: sophia_h needs"),
    ],
)
def test_what_cannot_be_tuned(arguments, message, capsys, small_suite):
    assert main(["tune", *arguments, "--suite", small_suite]) == 2
    assert message in capsys.readouterr().err
