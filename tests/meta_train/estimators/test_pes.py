"""Who is credited with what, against a float64 simulation of the same draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.particles import begin, estimate
from helpers.toys import parabola

from meta_train.estimators import PES, FullES, TruncatedES, pes
from meta_train.inner.horizons import Fixed
from meta_train.inner.objectives import FinalLoss, MeanLoss

RATE, START = 0.1, 2.0
THETA = {"rate": jnp.float32(RATE)}


def simulate(draws, horizon, length, std, final):
    """Gradients of consecutive windows under the given draws; as the estimator's definition has it.

    Every step's difference goes to the distinct draws that its run has lived under so far.
    """
    runs, step, lived, gradients = np.array([START, START]), 0, [], []
    for draw in draws:
        gradient = 0.0
        for _ in range(length):
            if step == horizon:
                runs, step, lived = np.array([START, START]), 0, []
            if draw not in lived:
                lived = [*lived, draw]
            losses = runs**2 / 2
            worth = 0.0 if final and step + 1 < horizon else losses[0] - losses[1]
            gradient += worth * sum(lived) / (2 * std**2 * length)
            runs = runs * (1.0 - np.array([RATE + draw, RATE - draw]))
            step += 1
        gradients.append(gradient)
    return np.array(gradients)


@pytest.mark.parametrize(
    ("redraw_every", "horizon", "objective", "pattern"),
    [
        (1, 3, MeanLoss(), [0, 1, 2, 3, 4, 5, 6]),
        (1, 4, FinalLoss(), [0, 1, 2, 3, 4, 5, 6]),
        (2, 8, MeanLoss(), [0, 0, 1, 1, 2, 2, 3]),
        (
            2,
            7,
            FinalLoss(),
            [0, 0, 1, 1, 2, 2, 3],
        ),  # a run begins in the fourth window; the fifth redraws
        (2, 5, MeanLoss(), [0, 0, 1, 2, 2, 3, 3]),  # begins in the third window, and with the sixth
        (0, 4, MeanLoss(), [0, 0, 1, 1, 2, 2, 3]),
        (0, 5, FinalLoss(), [0, 0, 0, 1, 1, 2, 2]),
    ],
)
def test_every_loss_is_credited_to_the_draws_its_run_lived_under(
    redraw_every, horizon, objective, pattern
):
    estimator = PES(
        parabola(Fixed(horizon)), objective, length=2, std=0.05, redraw_every=redraw_every
    )
    keys = jax.random.split(jax.random.key(0), (1, 1))
    states, draws, gradients = begin(estimator, THETA, (), keys, horizon), [], []
    run = jax.jit(lambda states, keys: estimate(estimator, THETA, (), states, keys)[:2])
    for i in range(7):
        gradient, states = run(states, jax.random.split(jax.random.key(i), (1, 1)))
        gradients.append(float(gradient["rate"][0, 0]))
        draws.append(float(states.draw["rate"][0, 0]))
    assert [sorted(set(draws), key=draws.index).index(draw) for draw in draws] == pattern
    expected = simulate(draws, horizon, 2, 0.05, isinstance(objective, FinalLoss))
    np.testing.assert_allclose(gradients, expected, rtol=2e-4, atol=2e-4)


def first(estimator, keys, others):
    """The estimates of a first window that is a whole run."""

    @jax.jit
    def run(keys, others):
        states = begin(estimator, THETA, (), keys, estimator.length)
        return estimate(estimator, THETA, (), states, others)[0]["rate"]

    return run(keys, others)


def test_a_run_seen_whole_is_the_same_to_all_evolution_strategies():
    keys, others = (jax.random.split(jax.random.key(i), (1, 5)) for i in range(2))
    found = []
    for make, fields in [(FullES, {}), (PES, {}), (PES, {"redraw_every": 0}), (TruncatedES, {})]:
        estimator = make(parabola(Fixed(6)), MeanLoss(), length=6, **fields)
        found.append(first(estimator, keys, others))
    assert np.abs(found[0]).min() > 0.0
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-3)


def test_the_halves_of_a_pair_can_change_places(monkeypatch):
    estimator = PES(parabola(Fixed(4)), MeanLoss(), length=4)
    keys = jax.random.split(jax.random.key(0), (1, 8))
    original, found = pes.draw, []
    for sign in (1.0, -1.0):
        drawn = lambda *args, s=sign: jax.tree.map(lambda e: s * e, original(*args))
        monkeypatch.setattr(pes, "draw", drawn)
        found.append(first(estimator, keys, keys))
    np.testing.assert_array_equal(*found)
