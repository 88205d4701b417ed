"""Rewards of hand-made curves, beside a double-precision reading of the same rules."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.learners.ppo.reward import fit_curve, log_progress, reward


def by_hand(losses, steps, loss, cap):
    """The rules in plain Python: distinct levels in a list, a search for the segment."""
    if not math.isfinite(loss):
        return -3.0
    loss = max(loss, 1e-8)
    lowest, levels = math.inf, []
    for k, value in enumerate(losses):
        if math.isfinite(value):
            lowest = min(lowest, max(value, 1e-8))
        levels.append((1.0 + k * steps, lowest))
    known = [(t, e) for t, e in levels if math.isfinite(e)]
    if not known:
        return 3.0
    first, last, end = known[0][1], known[-1][1], levels[-1][0]
    if first / last < 1.05:
        return float(np.clip(math.log(last / loss) / 0.25, -3.0, 3.0))
    if loss >= first:
        progress = -math.log(end)
    elif loss <= last:
        x = np.log([t for t, _ in levels[len(losses) // 2 :]])
        y = np.log([e if math.isfinite(e) else first for _, e in levels[len(losses) // 2 :]])
        slope = float(np.clip(np.polyfit(x, y, 1)[0], -2.0, -0.05))
        progress = math.log(loss / last) / slope
    else:
        corners = []
        for t, e in known:
            if not corners or e < corners[-1][1]:
                corners.append((t, e))
        corners[-1] = (end, corners[-1][1])
        at = next(i for i, (_, e) in enumerate(corners) if e <= loss)
        (t0, e0), (t1, e1) = corners[at - 1], corners[at]
        share = math.log(e0 / loss) / math.log(e0 / e1)
        progress = math.log(t0) + share * math.log(t1 / t0) - math.log(end)
    return float(np.clip(min(progress, math.log(cap)), -3.0, 3.0))


CURVES = {
    "power law": [2.0 * (1 + 24 * k) ** -0.7 for k in range(17)],
    "plateaus": [2.3, 1.9, 1.9, 1.95, 1.2, 1.3, 0.9, 0.9, 0.85],
    "minimum in the middle": [2.0, 1.0, 0.5, 0.6, 0.8, 1.1],
    "not finite here and there": [np.nan, 2.0, np.inf, 1.0, np.nan, 0.7],
    "to the floor": [1.0, 1e-3, 1e-6, 0.0, 0.0],
    "flat": [1.0, 0.99, 0.98, 0.97],
    "rising": [1.0, 1.2, 5.0],
    "slow end": [2.0, 0.5, 0.4999, 0.4998, 0.4997],
    "steep": [1.0, 0.9, 0.2, 1e-3, 1e-6],
}


@jax.jit
def ours(losses, at):
    curve = fit_curve(losses, 24)
    return jax.vmap(lambda loss: reward(curve, loss, 8.0))(at)


def spots(losses):
    """Losses above, at, between and below the levels of a curve, and none at all."""
    finite = np.asarray([v for v in losses if np.isfinite(v)], np.float32)
    levels = np.concatenate([finite, np.sqrt(finite[1:] * finite[:-1]), finite[-1:] * [0.97]])
    edge = [np.nan, np.inf, 0.0, -1.0, 3.0 * finite.max(), 0.5 * finite.min(), 1e-3 * finite.min()]
    return np.concatenate([levels, np.asarray(edge)]).astype(np.float32)


@pytest.mark.parametrize("name", CURVES)
def test_equals_a_double_precision_reading_of_the_rules(name):
    losses = np.asarray(CURVES[name], np.float32)
    at = spots(losses)
    expected = [by_hand(losses.astype(float), 24, float(loss), 8.0) for loss in at]
    np.testing.assert_allclose(ours(losses, at), expected, rtol=1e-6, atol=1e-6)


def test_a_baseline_without_any_finite_loss_is_beaten_by_whoever_has_one():
    losses = jnp.full(5, jnp.nan)
    assert ours(losses, jnp.asarray([1.0, jnp.nan])).tolist() == [3.0, -3.0]


def test_the_anchors():
    """The baseline's own end is 0; half its steps log 1/2; twice, by its power law, log 2."""
    losses = jnp.asarray(CURVES["power law"])
    end = 1 + 24 * 16
    at = jnp.asarray([losses[-1], 2.0 * (end / 2) ** -0.7, 2.0 * (2 * end) ** -0.7, 1e-6])
    expected = [0.0, -math.log(2), math.log(2), math.log(8)]
    np.testing.assert_allclose(ours(losses, at), expected, atol=2e-3)
    assert ours(losses, losses[-1:])[0] == 0.0


def test_the_example_of_a_digits_classifier():
    """e_K 0.1918, exponent -0.953 and a final loss of 0.0713 make 2.82 times the steps."""
    losses = 0.1918 * (1 + 24 * jnp.arange(17.0)) ** -0.953 * 385**0.953
    assert math.isclose(ours(losses, jnp.asarray([0.0713]))[0], 1.04, abs_tol=0.005)


@pytest.mark.parametrize("name", CURVES)
def test_falls_with_the_loss_and_is_capped(name):
    losses = np.asarray(CURVES[name], np.float32)
    finite = losses[np.isfinite(losses)]
    at = np.geomspace(max(finite.min() / 10, 2e-8), 5 * finite.max(), 400).astype(np.float32)
    found = np.asarray(ours(losses, at))
    assert np.all(np.diff(found) <= 1e-5)
    most = 3.0 if name in ("flat", "rising") else math.log(8)
    assert np.all(found >= -3.0) and np.all(found <= most + 1e-6)


def test_progress_beyond_the_end_has_no_limit():
    losses = jnp.asarray(CURVES["power law"])
    found = jax.jit(lambda x: log_progress(fit_curve(losses, 24), x))(losses[-1] * 100.0**-0.7)
    np.testing.assert_allclose(found, math.log(100), rtol=1e-3)
