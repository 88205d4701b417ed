import numpy as np
import pytest

from meta_train import stats

STEPS = np.arange(0, 101, 10)


def decay(rate, start=1.0):
    """start exp(-rate step): a straight line in the logarithm, so smoothing only shifts it."""
    return start * np.exp(-rate * STEPS)


def scored(*curves, bound=0.0, yardstick=0):
    curves = np.stack(curves)[:, None, None, :]
    bound = np.full((1, 1), bound)
    diverged = stats.find_diverged(curves, np.broadcast_to(bound, curves.shape[:-1]))
    return stats.score(curves, bound, diverged, STEPS, yardstick)


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


def test_a_tie_counts_as_reached():
    scores = scored(decay(0.05), 1.00005 * decay(0.05), 1.001 * decay(0.05))
    assert scores.speedup.ravel() == pytest.approx([1.0, 1.0, 0.0], abs=1e-3)


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


def test_the_yardstick_against_itself_is_one():
    scores = scored(decay(0.05))
    assert scores.ratio.item() == pytest.approx(1.0)
    assert scores.speedup.item() == pytest.approx(1.0, abs=1e-3)


def test_a_curve_that_stops_where_the_yardstick_ends_has_the_speedup_of_its_slope():
    fast = decay(0.10)
    scores = scored(decay(0.05), fast)
    # In the logarithm both are lines through 0: smoothing gives -rate * lagged step for both, so
    # the fast one is at the target when its lagged step is half of the yardstick's.
    lagged = stats.smooth(STEPS.astype(float))
    expected = 100.0 / np.interp(lagged[-1] / 2.0, lagged, STEPS)
    assert scores.speedup[1].item() == pytest.approx(expected, rel=1e-4)
    assert scores.ratio[1].item() == pytest.approx(np.exp(-5.0), rel=1e-6)


def test_a_slower_curve_never_reaches():
    scores = scored(decay(0.05), decay(0.04))
    assert scores.speedup[1].item() == 0.0
    assert scores.ratio[1].item() == pytest.approx(np.exp(1.0))


def test_ratios_are_of_the_loss_above_the_bound():
    scores = scored(decay(0.05) - 7.0, decay(0.04) - 7.0, bound=-7.0)
    assert scores.ratio[1].item() == pytest.approx(np.exp(1.0))


def test_an_unbounded_task_has_a_ratio_only_where_losses_are_positive():
    scores = scored(decay(0.05), decay(0.04), bound=np.nan)
    assert scores.ratio[1].item() == pytest.approx(np.exp(1.0))
    scores = scored(decay(0.05) - 3.0, decay(0.04) - 3.0, bound=np.nan)
    assert np.isnan(scores.ratio).all()
    assert scores.speedup[0].item() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 12.0])
def test_diverged_runs_are_scored_with_the_limit(bad):
    wild = decay(0.1)
    wild[-1] = bad
    scores = scored(decay(0.05), wild)
    # The limit is ten times the start, plus 1.
    assert scores.ratio[1].item() == pytest.approx(11.0 / np.exp(-5.0))
    assert scores.speedup[1].item() == 0.0


def test_where_the_yardstick_diverged_nobody_is_scored():
    curves = np.stack([[decay(0.05), np.full(11, 50.0)], [decay(0.1), decay(0.01)]])[:, :, None]
    curves[0, 1, 0, 0] = 1.0
    bound = np.zeros((2, 1))
    diverged = stats.find_diverged(curves, np.zeros((2, 2, 1)))
    assert diverged.tolist() == [[[False], [True]], [[False], [False]]]
    scores = stats.score(curves, bound, diverged, STEPS, yardstick=0)
    assert np.isnan(scores.speedup[:, 1]).all() and np.isnan(scores.ratio[:, 1]).all()
    verdict = stats.verdict(scores, diverged, np.ones((2, 2)), optimizer=1, yardstick=0)
    alone = scored(decay(0.05), decay(0.1))
    assert verdict.speedup == pytest.approx(alone.speedup[1].item())
    assert verdict.speedup_interval == pytest.approx([verdict.speedup] * 2)
    assert verdict.ratio == pytest.approx(alone.ratio[1].item())
    assert (verdict.reached, verdict.undefined, verdict.diverged) == (1, 1, 0)


def test_a_yardstick_that_always_diverged_leaves_everything_undefined():
    curves = np.stack([np.full(11, np.nan), decay(0.1)])[:, None, None]
    diverged = stats.find_diverged(curves, np.zeros((2, 1, 1)))
    scores = stats.score(curves, np.zeros((1, 1)), diverged, STEPS, yardstick=0)
    verdict = stats.verdict(scores, diverged, np.ones((2, 1)), optimizer=1, yardstick=0)
    assert np.isnan([verdict.speedup, *verdict.speedup_interval, verdict.ratio]).all()
    assert (verdict.reached, verdict.undefined) == (0, 1)


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


def test_verdict_counts_failures_and_tasks():
    curves = np.stack([[decay(0.05), decay(0.05)], [decay(0.1), np.full(11, np.nan)]])[:, :, None]
    bound = np.zeros((2, 1))
    diverged = stats.find_diverged(curves, np.zeros((2, 2, 1)))
    scores = stats.score(curves, bound, diverged, STEPS, yardstick=0)
    seconds = np.array([[1.0, 2.0], [3.0, 10.0]])
    verdict = stats.verdict(scores, diverged, seconds, optimizer=1, yardstick=0)
    assert verdict.reached == 1
    assert verdict.diverged == 1
    assert verdict.cost == pytest.approx(4.0)
    assert verdict.speedup_interval.low == 0.0
    # A diverged run whose start is unknown has no limit: its ratio is undefined, not good.
    assert verdict.ratio == pytest.approx(np.exp(-5.0))


def test_log_progress():
    initial, bound = np.array([2.0, 2.0, 2.0, 2.0]), np.array([1.0, 1.0, 1.0, np.nan])
    final = np.array([1.5, np.nan, 1.0, -1.0])
    progress = stats.log_progress(initial, final, bound)
    assert progress == pytest.approx([np.log(0.5), 10.0, np.log(1e-7), -1.5])
