"""Derivatives in closed form, what rematerialisation saves, and mixing by variance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.particles import slopes
from helpers.toys import Descent, parabola

from meta_train.estimators import BackpropES, FullBackprop, TruncatedBackprop
from meta_train.estimators.backprop_es import _share
from meta_train.inner.horizons import Fixed, LogUniform
from meta_train.inner.objectives import MeanLoss
from meta_train.inner.unroll import Episodes
from meta_train.parallel import AXIS, TASKS
from tasks.families.synthetic import Quadratic

RATE, START = 0.1, 2.0
THETA = {"rate": jnp.float32(RATE)}


def loss_sum_slope(steps):
    """d/d rate of sum_t x_t^2 / 2 with x_t = (1 - rate)^t x_0, t < steps."""
    t = np.arange(steps)
    return np.sum(-t * (1.0 - RATE) ** (2 * t - 1)) * START**2


def test_backprop_of_a_whole_run_is_its_derivative():
    episodes = parabola(Fixed(8))
    for estimator in (
        TruncatedBackprop(episodes, MeanLoss(), length=8),
        FullBackprop(episodes, MeanLoss(), remat_every=2),
    ):
        found = slopes(estimator, THETA, 1, 1, 8)
        np.testing.assert_allclose(found[0, 0], loss_sum_slope(8) / 8, rtol=1e-5)
    with pytest.raises(ValueError, match="^horizon.kind: .*needs kind: fixed"):
        FullBackprop(parabola(LogUniform(8, 9)), MeanLoss())


def test_truncated_backprop_does_not_see_what_came_before():
    estimator = TruncatedBackprop(parabola(Fixed(8)), MeanLoss(), length=4, remat_every=2)
    first, second = slopes(estimator, THETA, 2, 1, 8)[:, 0]
    x4 = (1.0 - RATE) ** 4
    np.testing.assert_allclose(first, loss_sum_slope(4) / 4, rtol=1e-5)
    np.testing.assert_allclose(second, first * x4**2, rtol=1e-5)


def test_rematerialisation_gives_the_same_derivative_in_less_memory():
    episodes, key = Episodes(Quadratic(dim=100), Descent(), Fixed(100)), jax.random.key(0)
    found, memory = [], []
    for every in (0, 10):
        estimator = TruncatedBackprop(episodes, MeanLoss(clip=1e6), length=100, remat_every=every)
        state = estimator.init(THETA, (), key, 0)
        run = jax.jit(lambda state, e=estimator: e.estimate(THETA, (), state, key, 0)[0])
        program = run.lower(state).compile()
        found.append(program(state)["rate"])
        memory.append(program.memory_analysis().temp_size_in_bytes)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    assert memory[1] < 0.6 * memory[0]


@pytest.mark.parametrize("shards", [1, 2])
def test_the_surer_estimate_weighs_more_entry_by_entry(shards):
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 6, 3)).astype(np.float32) * [[[1.0, 5.0, 1.0]], [[2.0, 1, 1]]]
    one[2, 2] = np.nan
    cut = lambda x: jnp.asarray(x, jnp.float32).reshape(shards, -1, 3)
    run = jax.vmap(jax.vmap(_share, axis_name=TASKS), axis_name=AXIS)
    found = np.asarray(run(cut(one), cut(other))).reshape(6, 3)
    precise, other_precise = (1 / (np.var(x, axis=0, ddof=1) + 1e-8) for x in (one, other))
    expected = np.nan_to_num(precise / (precise + other_precise))
    np.testing.assert_allclose(found, np.tile(expected, (6, 1)), rtol=1e-4)
    assert expected[0] > 0.5 > expected[1] > expected[2] == 0.0


def test_where_backprop_is_not_finite_evolution_strategies_take_over():
    """All losses are at the cap, so the pairs tie; derivatives that are NaN count for nothing."""
    estimator = BackpropES(parabola(Fixed(4), poison=np.nan), MeanLoss(), length=4)
    found = slopes(estimator, THETA, 1, 8, 4)
    np.testing.assert_array_equal(found, 0.0)
