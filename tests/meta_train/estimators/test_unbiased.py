"""Which estimators find the derivative of a whole run, and which that of its windows alone."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.particles import mean_and_error, slopes
from helpers.toys import parabola

from learned_opt.base import LearnedOptimizer
from meta_train.estimators import (
    PES,
    BackpropES,
    FullES,
    PESBackprop,
    TruncatedBackprop,
    TruncatedES,
)
from meta_train.inner.horizons import Fixed
from meta_train.inner.objectives import FinalLoss, MeanLoss
from meta_train.inner.unroll import Episodes
from tasks.base import Task

RATE, START, STEPS = 0.1, 2.0, 8
THETA = {"rate": jnp.float32(RATE)}


def loss_sum_slope(steps):
    """d/d rate of sum_t x_t^2 / 2 with x_t = (1 - rate)^t x_0, t < steps."""
    t = np.arange(steps)
    return np.sum(-t * (1.0 - RATE) ** (2 * t - 1)) * START**2


def window_slope():
    """The same, but with what theta did before a window of 2 steps taken as given."""
    kept = (1.0 - RATE) ** (2 * np.arange(0, STEPS, 2))
    return loss_sum_slope(2) * np.sum(kept)


@pytest.mark.parametrize(
    ("make", "fields", "whole"),
    [
        (PES, {"length": 2}, True),
        (PES, {"length": 2, "redraw_every": 0}, True),
        (PESBackprop, {"length": 2}, True),
        (FullES, {"length": 4}, True),
        (TruncatedES, {"length": 2}, False),
        (BackpropES, {"length": 2}, False),
    ],
)
def test_means_over_many_particles_are_derivatives(make, fields, whole):
    estimator = make(parabola(Fixed(STEPS)), MeanLoss(), std=0.003, **fields)
    length = STEPS if make is FullES else estimator.length
    samples = length * slopes(estimator, THETA, STEPS // length, 20000, STEPS)
    mean, error = mean_and_error(samples)
    exact = loss_sum_slope(STEPS) if whole else window_slope()
    assert abs(mean - exact) < 4 * error + 0.003 * abs(exact)
    assert error < 0.02 * abs(exact)


SIZE, REST = 11, 0.5
MATRIX = 0.5 * (np.eye(SIZE) + np.eye(SIZE, k=1))
SIGN = np.where(np.arange(SIZE) < 4, 1.0, -1.0)
AT_REST = np.linalg.solve(np.eye(SIZE) - MATRIX, REST * SIGN)


@dataclass(frozen=True)
class Balance:
    """x <- A x + theta s: what theta does at once and what it does in the long run differ in sign.

    Influence balancing after 2112.13835, section 5, smaller: A is 1/2 on the diagonal and right of
    it, s is 1 for the first 4 of 11 entries and -1 for the others.
    """

    def init(self, key):
        del key
        return {"rate": jnp.float32(REST)}

    def opt(self, theta, horizon, key=None, learning_rate=None):
        del horizon, key, learning_rate

        def update(updates, state, params=None, **extra):
            x = params["x"]
            return {"x": MATRIX @ x + theta["rate"] * SIGN - x}, state

        return optax.GradientTransformationExtraArgs(lambda params: (), update)


@dataclass(frozen=True)
class FirstEntry:
    """(x_0 - 1)^2 / 2 from where x stays at rest under theta = REST."""

    name: str = "first_entry"

    def load(self):
        return ()

    def sample(self, key):
        return ()

    def task(self, cfg, data):
        loss = lambda params, key, batch: 0.5 * (params["x"][0] - 1.0) ** 2
        init = lambda key: {"x": jnp.asarray(AT_REST, jnp.float32)}
        return Task(init, lambda key, split: (), lambda split: (), loss, 0.0)


def total_of_60(theta):
    x, total = AT_REST, 0.0
    for _ in range(60):
        total += 0.5 * (x[0] - 1.0) ** 2
        x = MATRIX @ x + theta * SIGN
    return total


@pytest.mark.parametrize(
    ("make", "fields", "right"),
    [
        (TruncatedBackprop, {}, False),
        (TruncatedES, {"std": 0.1}, False),
        (PES, {"std": 0.1}, True),
        (PES, {"std": 0.1, "redraw_every": 0}, True),
        (FullES, {"std": 0.1}, True),
    ],
)
def test_influence_balancing(make, fields, right):
    rule = Balance()
    assert isinstance(rule, LearnedOptimizer)
    episodes, theta = Episodes(FirstEntry(), rule, Fixed(60)), rule.init(None)
    estimator = make(episodes, MeanLoss(clip=1e6), length=5, **fields)
    length = 60 if make is FullES else 5
    samples = length * slopes(estimator, theta, 60 // length, 4000, 60)
    mean, error = mean_and_error(samples)
    if right:
        exact = (total_of_60(REST + 1e-4) - total_of_60(REST - 1e-4)) / 2e-4
        assert exact > 0.0
        assert abs(mean - exact) < 4 * error
        assert mean > 5 * error
    else:
        assert mean < -5 * error


@dataclass(frozen=True)
class Alternating:
    """x <- x + theta s_t, where s_t is 1 for two steps, -1 for the next two and so on."""

    def init(self, key):
        del key
        return {"rate": jnp.float32(0.0)}

    def opt(self, theta, horizon, key=None, learning_rate=None):
        del horizon, key, learning_rate

        def update(updates, state, params=None, **extra):
            sign = jnp.where(state // 2 % 2 == 0, 1.0, -1.0)
            return {"x": theta["rate"] * sign}, state + 1

        init = lambda params: jnp.zeros((), jnp.int32)
        return optax.GradientTransformationExtraArgs(init, update)


@dataclass(frozen=True)
class Line:
    name: str = "line"

    def load(self):
        return ()

    def sample(self, key):
        return ()

    def task(self, cfg, data):
        loss = lambda params, key, batch: params["x"]
        init = lambda key: {"x": jnp.float32(0.0)}
        return Task(init, lambda key, split: (), lambda split: (), loss, None)


@pytest.mark.parametrize(("redraw_every", "windows"), [(1, 3), (1, 9), (0, 9)])
def test_variance_grows_with_the_number_of_windows_under_pes_alone(redraw_every, windows):
    """Closed forms: for standard normal e, (a.e)(b.e) has variance |a|^2 |b|^2 + (a.b)^2."""
    episodes = Episodes(Line(), Alternating(), Fixed(2 * windows))
    estimator = PES(episodes, FinalLoss(), length=2, std=0.1, redraw_every=redraw_every)
    theta = {"rate": jnp.float32(0.0)}
    total = 2 * slopes(estimator, theta, windows, 40000, 2 * windows).sum(0)
    # The last loss sees one step of the last window and both of the others; all cancel but it.
    expected = (4 * (windows - 1) + 1) * windows + 1 if redraw_every else 2
    np.testing.assert_allclose(total.var(), expected, rtol=0.1)
    assert abs(total.mean() - 1.0) < 4 * np.sqrt(expected / 40000)
