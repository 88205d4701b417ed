import numpy as np
import pytest

from tasks.distributions.draws import Draws

GOLDEN = [914, 574, 464, 669, 150, 907]  # of Draws(0, 1, 2) on x86-64 with NumPy 2.4


def many(draw, count=20_000):
    draws = Draws(1)
    return np.array([draw(draws) for _ in range(count)])


def test_the_stream_is_fixed_by_its_seeds():
    first = [Draws(3, 7).uniform() for _ in range(2)]
    assert first[0] == first[1] != Draws(3, 8).uniform()
    draws = Draws(0, 1, 2)
    assert [draws.integer(0, 999) for _ in range(6)] == GOLDEN


def test_uniform_numbers_fill_their_interval_evenly():
    found = many(lambda draws: draws.uniform(-2.0, 3.0))
    counts, _ = np.histogram(found, bins=10, range=(-2, 3))
    assert counts.sum() == 20_000  # none outside
    assert np.all(np.abs(counts - 2_000) < 5 * np.sqrt(2_000))


def test_log_integers_are_as_likely_as_their_share_of_the_logarithm():
    found = many(lambda draws: draws.log_int(16, 128))
    assert found.min() == 16 and found.max() == 128
    for octave in (16, 32, 64):
        low, high = np.log([octave - 0.5 if octave > 16 else 16, 2 * octave - 0.5])
        share = np.mean((found >= octave) & (found < 2 * octave))
        assert share == pytest.approx((high - low) / np.log(8), abs=0.015)


def test_integers_include_both_ends():
    assert set(many(lambda draws: draws.integer(2, 5), 200)) == {2, 3, 4, 5}


def test_choices_follow_their_weights():
    found = many(lambda draws: draws.choice("abc", (6, 3, 1)))
    shares = [np.mean(found == item) for item in "abc"]
    np.testing.assert_allclose(shares, (0.6, 0.3, 0.1), atol=0.015)
    equal = many(lambda draws: draws.choice("ab"))
    assert np.mean(equal == "a") == pytest.approx(0.5, abs=0.02)


def test_chances():
    assert np.mean(many(lambda draws: draws.chance(0.2))) == pytest.approx(0.2, abs=0.015)
