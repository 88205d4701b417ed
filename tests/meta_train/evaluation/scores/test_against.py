import numpy as np
import pytest

from meta_train.evaluation import stats
from meta_train.evaluation.scores.against import envelope, score
from meta_train.evaluation.scores.verdicts import ranking, verdicts

STEPS = np.arange(0, 101, 10)


def decay(rate, start=1.0):
    """start exp(-rate step): a straight line in the logarithm, so smoothing only shifts it."""
    return start * np.exp(-rate * STEPS)


def scored(*curves, bound=0.0, yardstick=0):
    curves = np.stack(curves)[:, None, None, :]
    bound = np.full((1, 1), bound)
    diverged = stats.find_diverged(curves, np.broadcast_to(bound, curves.shape[:-1]))
    return score(curves, bound, diverged, STEPS, yardstick)


def test_a_tie_counts_as_reached():
    scores = scored(decay(0.05), 1.00005 * decay(0.05), 1.001 * decay(0.05))
    assert scores.speedup.ravel() == pytest.approx([1.0, 1.0, 0.0], abs=1e-3)


def test_the_yardstick_against_itself_is_one():
    scores = scored(decay(0.05))
    assert scores.ratio.item() == pytest.approx(1.0)
    assert scores.speedup.item() == pytest.approx(1.0, abs=1e-3)


def test_the_yardstick_is_as_fast_as_itself_where_noise_took_it_down_early():
    noisy = np.array([8.0, 2.0, 2.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0])
    scores = scored(noisy, noisy + 0.1)
    assert scores.steps[0].item() == 100.0 and scores.speedup[0].item() == 1.0
    assert scores.speedup[1].item() > 5.0


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
    scores = score(curves, bound, diverged, STEPS, yardstick=0)
    assert np.isnan(scores.speedup[:, 1]).all() and np.isnan(scores.ratio[:, 1]).all()
    verdict = verdicts(scores, diverged, np.ones((2, 2)), yardstick=0)[1]
    alone = scored(decay(0.05), decay(0.1))
    assert verdict.speedup == pytest.approx(alone.speedup[1].item())
    assert verdict.speedup_interval == pytest.approx([verdict.speedup] * 2)
    assert verdict.ratio == pytest.approx(alone.ratio[1].item())
    assert (verdict.reached, verdict.undefined, verdict.diverged) == (1, 1, 0)


def test_a_yardstick_that_always_diverged_leaves_everything_undefined():
    curves = np.stack([np.full(11, np.nan), decay(0.1)])[:, None, None]
    diverged = stats.find_diverged(curves, np.zeros((2, 1, 1)))
    scores = score(curves, np.zeros((1, 1)), diverged, STEPS, yardstick=0)
    verdict = verdicts(scores, diverged, np.ones((2, 1)), yardstick=0)[1]
    assert np.isnan([verdict.speedup, *verdict.speedup_interval, verdict.ratio]).all()
    assert (verdict.reached, verdict.undefined) == (0, 1)


def test_verdict_counts_failures_and_tasks():
    curves = np.stack([[decay(0.05), decay(0.05)], [decay(0.1), np.full(11, np.nan)]])[:, :, None]
    bound = np.zeros((2, 1))
    diverged = stats.find_diverged(curves, np.zeros((2, 2, 1)))
    scores = score(curves, bound, diverged, STEPS, yardstick=0)
    seconds = np.array([[1.0, 2.0], [3.0, 10.0]])
    verdict = verdicts(scores, diverged, seconds, yardstick=0)[1]
    assert verdict.reached == 1
    assert verdict.diverged == 1
    assert verdict.cost == pytest.approx(4.0) and verdict.cost_range == (3.0, 5.0)
    assert verdict.speedup_interval.low == 0.0
    # A diverged run whose start is unknown has no limit: its ratio is undefined, not good.
    assert verdict.ratio == pytest.approx(np.exp(-5.0))


def test_time_to_target_is_censored_where_the_run_is_too_short():
    scores = scored(decay(0.05), decay(0.10), decay(0.04), np.full(11, np.nan))
    assert scores.steps.ravel() == pytest.approx([100.0, 50.0, np.inf, np.inf], rel=1e-2)


def test_the_envelope_mixes_settings_and_never_rises():
    """Means over seeds of two settings, one early and one late; short curves are not smoothed."""
    early, late = np.array([4.0, 2.0, 2.0, 3.0]), np.array([4.0, 3.0, 1.0, np.nan])
    trials = np.stack([[early, early], [late - 0.5, late + 0.5]])[:, None]
    found = envelope(trials, np.full((1, 2), np.nan))
    assert found.tolist() == [[4.0, 2.0, 1.0, 1.0]]


def test_speedup_over_the_envelope_counts_its_steps():
    """On an unbounded task losses count as they are, so every crossing can be read off."""
    steps = np.array([0, 10, 20, 30, 40])
    early, late = np.array([5.0, 3.0, 3.0, 3.0, 3.0]), np.array([5.0, 4.5, 4.0, 2.0, 1.0])
    behind = np.array([5.0, 4.0, 4.0, 4.0, 4.0])  # the envelope is at 4 after 5 of 40 steps
    between = np.array([5.0, 4.0, 4.0, 4.0, 2.5])  # at 2.5 after 25
    ahead = np.array([5.0, 3.0, 1.0, 0.5, 0.5])  # at the envelope's end, 1, after 20
    above = np.array([5.0, 4.0, 4.0, 4.0, 6.0])
    wild = np.array([5.0, 4.0, 4.0, 4.0, np.nan])
    curves = np.stack([late, behind, between, ahead, above, wild])[:, None, None]
    bound = np.full((1, 1), np.nan)
    diverged = stats.find_diverged(curves, np.full((6, 1, 1), np.nan))
    trials = np.stack([early, late])[:, None, None]
    scores = score(curves, bound, diverged, steps, 0, trials)
    expected = [1.0, 5 / 40, 25 / 40, 40 / 20, 0.0, 0.0]
    assert scores.envelope_speedup.ravel() == pytest.approx(expected, rel=1e-3)
    # Over the best single setting the run that got down to 1 after 20 steps is as much faster.
    assert scores.speedup[3].item() == pytest.approx(2.0, rel=1e-3)
    assert scores.speedup[:3].ravel() == pytest.approx([1.0, 0.0, 0.0], rel=1e-3)
    without = score(curves, bound, diverged, steps, 0)
    assert np.isnan(without.envelope_speedup).all()


def test_scores_of_hand_made_results():
    """Four tasks, one seed, straight lines: every number of the table by hand.

    The yardstick falls from 8 to 4 over 40 steps, the other is down there after 10, 20, 40 steps
    and never: speedups 4, 2, 1, 0; the middle half of which is 2 and 1.
    """
    steps = np.array([0, 10, 20, 30, 40])
    adam = np.array([8.0, 7.0, 6.0, 5.0, 4.0])
    other = np.array([[8, 4, 4, 4, 2], [8, 6, 4, 4, 4], [8, 8, 8, 8, 4], [8, 8, 8, 8, 16]], float)
    curves = np.stack([np.tile(adam, (4, 1)), other])[:, :, None]
    bound = np.full((4, 1), np.nan)
    diverged = stats.find_diverged(curves, np.full((2, 4, 1), np.nan))
    scores = score(curves, bound, diverged, steps, 0)
    assert scores.speedup[1].ravel() == pytest.approx([4.0, 2.0, 1.0, 0.0], rel=1e-3)
    assert scores.ratio[1].ravel() == pytest.approx([0.5, 1.0, 1.0, 4.0])
    found = verdicts(scores, diverged, np.array([[1.0] * 4, [2.0] * 4]), 0)[1]
    assert found.speedup == pytest.approx(1.5, rel=1e-3)
    assert found.gap == pytest.approx(0.25, abs=1e-3)
    assert found.wall_clock_speedup == pytest.approx(0.75, rel=1e-3)
    assert (found.diverged, found.failed, found.reached) == (0, 1, 3)
    assert found.ratio == pytest.approx(1.0) and found.worst_ratio == pytest.approx(4.0)
    # One win, two ties, one loss.
    assert found.improvement == pytest.approx(0.5)
    # By steps: the fastest on three tasks, missed on one.
    assert found.area == pytest.approx(0.75, rel=1e-3)
    # By seconds 20/40, 40/40, 80/40 of Adam's: ratios 1, 1, 2 and never.
    assert found.wall_clock_area == pytest.approx((1 + 1 + 2 / 3 + 0) / 4, rel=1e-3)


def test_what_always_diverges_is_ranked_last():
    never = decay(0.001)
    curves = np.stack([np.full(11, np.nan), never, decay(0.05), decay(0.1)])[:, None, None]
    curves = np.tile(curves, (1, 3, 2, 1))
    curves[0, ..., 0] = 1.0
    diverged = stats.find_diverged(curves, np.zeros((4, 3, 2)))
    scores = score(curves, np.zeros((3, 2)), diverged, STEPS, yardstick=2)
    found = verdicts(scores, diverged, np.ones((4, 3)), yardstick=2)
    assert ranking(found) == [3, 2, 1, 0]
    assert found[0].diverged == 6 and found[0].failed == 3
    assert (found[0].speedup, found[0].gap, found[0].improvement) == (0.0, 1.0, 0.0)
    assert found[0].ratio > found[1].ratio > 1.0


def test_seeds_alone_move_the_interval_less_than_tasks():
    speeds = np.array([1.0, 2.0, 4.0, 8.0])
    scores = np.stack([speeds - 0.1, speeds, speeds + 0.1], axis=1)
    seeds, tasks = (stats.bootstrap(scores, over=over) for over in ("seeds", "tasks"))
    middle = np.sort(scores.ravel())[3:9]
    assert seeds.low <= middle.mean() <= seeds.high
    assert seeds.high - seeds.low < 0.25 < 1.0 < tasks.high - tasks.low
