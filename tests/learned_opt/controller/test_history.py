"""Cumulative features against sums over the whole history."""

import jax
import numpy as np
from scipy.stats import norm

from learned_opt.controller.history import END_WEIGHTS, History, cumulative, remember


@jax.jit
def places(samples):
    """[t, n] samples, one after the other -> [t, n, w] places."""
    start = History.start(samples.shape[1], END_WEIGHTS)
    return jax.lax.scan(lambda h, x: remember(h, x, END_WEIGHTS), start, samples)[1]


def by_hand(samples):
    """In float64 and from the definition of the weights."""
    found = np.zeros((*samples.shape, len(END_WEIGHTS)))
    for t in range(1, len(samples) + 1):
        for j, w in enumerate(END_WEIGHTS):
            i = np.arange(1, t + 1)
            weights = ((i / t) ** w - ((i - 1) / t) ** w)[:, None]
            mean = (weights * samples[:t]).sum(0)
            deviation = np.sqrt((weights * (samples[:t] - mean) ** 2).sum(0))
            some = deviation > 0
            found[t - 1, :, j] = np.where(
                some, (samples[t - 1] - mean) / np.where(some, deviation, 1.0), 0.0
            )
    return found


DRAWN = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)


def test_the_recursion_is_the_weighted_history():
    want = by_hand(DRAWN.astype(np.float64))
    got = places(DRAWN)
    np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-4)
    np.testing.assert_array_equal(got[0], 0.0)
    np.testing.assert_allclose(cumulative(got), 2 * norm.cdf(want) - 1, atol=1e-4)


def test_places_do_not_change_with_the_unit():
    want = places(DRAWN)
    for scale, shift in ((1000.0, 0.0), (1.0, 30.0), (0.01, -0.5)):
        np.testing.assert_allclose(places(scale * DRAWN + shift), want, atol=2e-3)
    np.testing.assert_allclose(places(-DRAWN), -want, atol=1e-6)


def test_places_are_bounded_by_the_sample_s_own_weight():
    t = np.arange(1, 31)[:, None, None]
    own = 1 - ((t - 1) / t) ** np.array(END_WEIGHTS)
    spikes = np.where(np.arange(30)[:, None] == np.arange(5, 29, 4), 1e6, DRAWN)
    got = np.abs(places(spikes.astype(np.float32)))
    assert (got <= np.sqrt((1 - own) / own) * (1 + 1e-3) + 1e-6).all()
    assert (got >= 0.99 * np.sqrt((1 - own) / own))[5, 0].all()  # the first spike is on the bound


def test_what_is_missing_leaves_no_trace():
    holes = np.full((20, 2), np.nan, np.float32)
    holes[::2] = DRAWN[:10, :2]
    holes[1::4] = np.inf
    got = places(holes)
    np.testing.assert_array_equal(got[1::2], 0.0)
    np.testing.assert_allclose(got[::2], places(DRAWN[:10, :2]), atol=1e-6)


def test_what_stands_still_is_in_the_middle():
    np.testing.assert_array_equal(places(np.full((10, 3), 0.1, np.float32)), 0.0)
