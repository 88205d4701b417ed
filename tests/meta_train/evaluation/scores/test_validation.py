import numpy as np
import pytest

from meta_train.evaluation.scores.validation import Trials, validate

BOUND = np.zeros((1, 2))


def trials(*ends, start=8.0, train=None):
    """Of pairs of final losses, one for each seed: curves that fall from `start` to them."""
    test = np.array([[[[start, end] for end in pair]] for pair in ends])
    return Trials(test if train is None else trials(*train, start=start).train, test)


def test_each_task_takes_the_trial_with_the_least_mean_test_loss():
    tuned = trials((1.0, 3.0), (1.5, 1.7), (9.0, 0.1), train=((0.1, 0.1), (2.0, 2.0), (3.0, 3.0)))
    found = validate([tuned, trials((1.6, 1.63))], BOUND, yardstick=0)
    assert found.chosen.tolist() == [[1], [0]]
    assert found.loss[0].tolist() == [[1.5, 1.7]]
    assert found.ratio.ravel() == pytest.approx([1.0, 1.615 / 1.6])
    assert found.within.tolist() == [[True], [True]] and found.compared == 1
    assert found.median(1) == pytest.approx(1.615 / 1.6) and found.close(1) == 1


@pytest.mark.parametrize(("end", "within"), [(2.03, True), (2.05, False), (1.0, True)])
def test_two_percent_above_is_as_good(end, within):
    found = validate([trials((2.0, 2.0)), trials((end, end))], BOUND, yardstick=0)
    assert found.within[1].item() is within


def test_losses_count_above_their_bound():
    found = validate([trials((-4.0, -4.0)), trials((-3.0, -3.0))], BOUND - 5.0, yardstick=0)
    assert found.ratio.ravel() == pytest.approx([1.0, 2.0])
    assert found.loss[1].tolist() == [[-3.0, -3.0]]


def test_negative_losses_without_a_bound_have_no_ratio_but_are_compared():
    ends = [trials((end, end)) for end in (-2.0, -1.97, -1.9, -3.0)]
    found = validate(ends, np.full((1, 2), np.nan), yardstick=0)
    assert np.isnan(found.ratio).all() and np.isnan(found.median(1))
    assert found.within.ravel().tolist() == [True, True, False, True]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_trial_with_a_diverged_seed_is_not_taken(bad):
    """Though the other ends higher than its mean with the limit of 81."""
    blown = trials((0.1, 0.1), (60.0, 60.0), train=((0.1, bad), (60.0, 60.0)))
    unseen = trials((0.1, bad), (60.0, 60.0), train=((0.1, 0.1), (60.0, 60.0)))
    found = validate([trials((60.0, 60.0)), blown, unseen], BOUND, yardstick=0)
    assert found.chosen.ravel().tolist() == [0, 1, 1]
    assert not found.diverged.any() and found.ratio.ravel() == pytest.approx([1.0] * 3)


def test_what_diverges_with_every_trial_counts_with_its_limit():
    wild = trials((0.1, np.nan), (0.2, np.nan))
    found = validate([trials((2.0, 2.0)), wild], BOUND, yardstick=0)
    assert found.diverged[1].tolist() == [[False, True]]
    assert found.ratio[1].item() == pytest.approx((0.1 + 81.0) / 2 / 2.0)  # 10 * 8 + 1
    assert not found.within[1].item()
    other = validate([trials((2.0, 2.0)), wild], BOUND, yardstick=1)
    assert other.compared == 0 and np.isnan(other.ratio).all() and not other.within.any()
