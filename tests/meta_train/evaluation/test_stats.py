import numpy as np
import pytest

from meta_train.evaluation import stats


def test_smoothing_keeps_constants_and_starts_at_the_first_value():
    assert np.allclose(stats.smooth(np.full((2, 201), 3.0)), 3.0)
    curve = np.array([2.0, 4.0, *np.zeros(199)])
    smoothed = stats.smooth(curve)
    assert smoothed[0] == pytest.approx(2.0)
    assert smoothed[1] == pytest.approx((0.1 * 4.0 + 0.09 * 2.0) / (1.0 - 0.81))


def test_smoothing_looks_back_over_the_same_part_of_a_run():
    """The lag behind a straight line is a twentieth of the run less one point, however sampled."""
    for points in (40, 100, 200):
        line = np.linspace(0.0, 1.0, points + 1)
        assert 1.0 - stats.smooth(line)[-1] == pytest.approx(0.05 - 1.0 / points, abs=1e-3)
    short = np.linspace(0.0, 1.0, 21)
    assert np.allclose(stats.smooth(short), short)


def test_reaching_is_linear_between_points():
    line = np.array([10.0, 6.0, 2.0])
    steps = np.array([0, 100, 200])
    assert stats.steps_to_reach(line, steps, np.array(5.0)) == pytest.approx(125.0)
    assert stats.steps_to_reach(line, steps, np.array(6.0)) == pytest.approx(100.0)
    assert stats.steps_to_reach(line, steps, np.array(1.0)) == np.inf
    assert stats.steps_to_reach(line, steps, np.array(11.0)) == 1.0


def test_reaching_after_a_detour_counts_from_the_first_crossing():
    assert stats.steps_to_reach(
        np.array([4.0, 2.0, 9.0]), np.array([0, 10, 20]), np.array(3.0)
    ) == pytest.approx(5.0)


def test_bootstrap_draws_only_what_is_defined():
    values = np.array([[2.0, np.nan, 2.0], [np.nan] * 3, [2.0, 2.0, 2.0]])
    assert stats.bootstrap(values) == (2.0, 2.0)


def test_divergence_needs_a_high_end_or_a_value_that_is_not_finite():
    bound = np.zeros(4)
    curves = np.array([[1.0, 500.0, 0.5], [1.0, np.nan, 0.5], [1.0, 2.0, 11.5], [1.0, 2.0, 9.0]])
    assert stats.find_diverged(curves, bound).tolist() == [False, True, True, False]


def test_iqm_drops_a_quarter_at_each_end():
    assert stats.iqm(np.array([0.0, 1.0, 2.0, 1000.0])) == pytest.approx(1.5)


def test_geometric_mean_skips_the_undefined():
    assert stats.geometric_mean(np.array([2.0, 8.0, np.nan])) == pytest.approx(4.0)
    assert np.isnan(stats.geometric_mean(np.array([np.nan])))


def test_bootstrap_is_a_point_for_equal_scores_and_repeats_itself():
    assert stats.bootstrap(np.full((4, 3), 2.0)) == (2.0, 2.0)
    values = np.random.default_rng(1).normal(size=(8, 3))
    assert stats.bootstrap(values) == stats.bootstrap(values)


def test_bootstrap_treats_the_task_as_the_unit():
    """Equal seeds within a task carry no information: the interval has the width of task means."""
    means = np.random.default_rng(0).normal(size=(30, 1))

    def mean(values, axis):
        return values.mean(axis)

    one = stats.bootstrap(means, mean)
    many = stats.bootstrap(np.repeat(means, 50, axis=1), mean)
    assert many.high - many.low == pytest.approx(one.high - one.low, rel=0.1)
    expected = 2 * 1.96 * means.std() / np.sqrt(30)
    assert one.high - one.low == pytest.approx(expected, rel=0.1)


def test_log_progress():
    initial, bound = np.array([2.0, 2.0, 2.0, 2.0]), np.array([1.0, 1.0, 1.0, np.nan])
    final = np.array([1.5, np.nan, 1.0, -1.0])
    progress = stats.log_progress(initial, final, bound)
    assert progress == pytest.approx([np.log(0.5), 10.0, np.log(1e-7), -1.5])
