"""Estimators against closed forms, full derivatives and statistics over many draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Descent, Parabola, parabola

from meta_train.estimators import ESTIMATORS, PES, TruncatedBackprop
from meta_train.horizons import Fixed, LogUniform
from meta_train.objectives import LogLoss, MeanLoss
from meta_train.unroll import Episodes

RATE, START = 0.1, 2.0
THETA = {"rate": jnp.float32(RATE)}


def loss_sum_slope(steps):
    """d/d rate of sum_t x_t^2 / 2 with x_t = (1 - rate)^t x_0, t < steps."""
    t = np.arange(steps)
    return np.sum(-t * (1.0 - RATE) ** (2 * t - 1)) * START**2


def whole_first_run(estimator, key):
    """A state whose first run is not cut short."""
    state = estimator.init(THETA, (), key, 0)
    steps = estimator.episodes.horizons.shortest
    uncut = lambda inner: inner._replace(horizon=jnp.full_like(inner.horizon, steps))
    return state._replace(inner=uncut(state.inner)) if hasattr(state, "inner") else uncut(state)


def windows(estimator, count, key):
    """The estimates of `count` consecutive windows, theta fixed."""
    state = whole_first_run(estimator, key)
    slopes = []
    for i in range(count):
        gradient, state, _ = estimator.estimate(THETA, (), state, jax.random.fold_in(key, i), 0)
        slopes.append(gradient["rate"])
    return jnp.stack(slopes)


def averages(estimator, count, draws):
    """Mean and standard error of every window's estimate over many keys."""
    keys = jax.random.split(jax.random.key(1), draws)
    slopes = np.asarray(jax.jit(jax.vmap(lambda k: windows(estimator, count, k)))(keys))
    return slopes.mean(0), slopes.std(0) / np.sqrt(draws)


def test_backprop_of_a_whole_run_is_its_derivative():
    estimator = TruncatedBackprop(parabola(Fixed(8)), MeanLoss(), length=8)
    slope = windows(estimator, 1, jax.random.key(0))[0]
    np.testing.assert_allclose(slope, loss_sum_slope(8) / 8, rtol=1e-5)


def test_truncated_backprop_does_not_see_what_came_before():
    estimator = TruncatedBackprop(parabola(Fixed(8)), MeanLoss(), length=4)
    first, second = windows(estimator, 2, jax.random.key(0))
    x4 = (1.0 - RATE) ** 4
    np.testing.assert_allclose(first, loss_sum_slope(4) / 4, rtol=1e-5)
    np.testing.assert_allclose(second, first * x4**2, rtol=1e-5)


@pytest.mark.parametrize("length", [8, 4, 2])
def test_pes_sums_to_the_derivative_of_the_whole_run(length):
    estimator = PES(parabola(Fixed(8)), MeanLoss(), length=length, std=0.003)
    mean, error = averages(estimator, 8 // length, 20000)
    total, spread = mean.sum() * length, np.sqrt((error**2).sum()) * length
    assert abs(total - loss_sum_slope(8)) < 4 * spread + 0.01 * abs(loss_sum_slope(8))
    assert spread < 0.05 * abs(loss_sum_slope(8))


def test_a_run_that_ends_inside_a_window_gets_its_own_credit():
    """Runs of 3 steps in windows of 2: three windows hold two whole runs."""
    estimator = PES(parabola(Fixed(3)), MeanLoss(), length=2, std=0.003)
    mean, error = averages(estimator, 3, 40000)
    total, spread = mean.sum() * 2, np.sqrt((error**2).sum()) * 2
    assert abs(total - 2 * loss_sum_slope(3)) < 4 * spread
    assert spread < 0.05 * abs(2 * loss_sum_slope(3))


def test_noise_accumulates_within_a_run_and_is_reset_with_it():
    estimator = PES(parabola(Fixed(3)), MeanLoss(), length=2, std=0.01)
    state = whole_first_run(estimator, jax.random.key(0))
    noise = [0.0]
    for i in range(4):
        _, state, _ = estimator.estimate(THETA, (), state, jax.random.key(i), 0)
        noise.append(float(state.noise["rate"]))
    alone = []
    for i in range(4):
        start = whole_first_run(estimator, jax.random.key(0))
        _, after, _ = estimator.estimate(THETA, (), start, jax.random.key(i), 0)
        alone.append(float(after.noise["rate"]))
    expected = [alone[0], alone[1], alone[1] + alone[2], alone[3]]
    np.testing.assert_allclose(noise[1:], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_first_runs_end_at_different_times(kind):
    """Between a window and a whole run, as if they had begun at random times before."""
    estimator = ESTIMATORS[kind](parabola(Fixed(40)), MeanLoss(), length=4)
    keys = jax.random.split(jax.random.key(0), 500)
    state = jax.vmap(lambda k: estimator.init(THETA, (), k, 0))(keys)
    ends = np.asarray(getattr(state, "inner", state).horizon).reshape(500, -1)[:, 0]
    assert ends.min() == 4 and ends.max() == 40
    np.testing.assert_allclose(np.median(ends), 20, atol=3)


def test_only_the_named_weights_are_perturbed():
    from learned_opt.hierarchical_rnn import HierarchicalRNN

    rule = HierarchicalRNN(output="nominal", level_sizes=(3, 3), use_relative_lr=False)
    estimator = PES(
        Episodes(Parabola(), rule, Fixed(3)), LogLoss(), length=3, only=("param_readout",)
    )
    theta = rule.init(jax.random.key(0))
    gradient, _, _ = jax.jit(
        lambda k: estimator.estimate(theta, (), estimator.init(theta, (), k, 0), k, 0)
    )(jax.random.key(1))
    moved = {name for name, part in gradient.items() if any(x.any() for x in jax.tree.leaves(part))}
    assert moved == {"param_readout"}
    with pytest.raises(ValueError, match="did you mean param_readout"):
        PES(estimator.episodes, LogLoss(), length=3, only=("param_readouts",))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_what_would_estimate_something_else_is_refused(kind):
    make = ESTIMATORS[kind]
    with pytest.raises(ValueError, match="estimator.length: 9 .* shortest horizon, 8"):
        make(parabola(LogUniform(8, 20)), MeanLoss(), length=9)
    with pytest.raises(ValueError, match="'parabola' declares none"):
        make(parabola(Fixed(8), bound=None), LogLoss(), length=4)


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_metrics_count_divergence(kind, poison):
    estimator = ESTIMATORS[kind](parabola(Fixed(4), poison=poison), MeanLoss(), length=4)
    state = estimator.init(THETA, (), jax.random.key(0), 0)
    _, _, metrics = estimator.estimate(THETA, (), state, jax.random.key(1), 0)
    assert metrics["diverged"] == 1.0
    assert metrics["objective"] == MeanLoss().clip
    assert Descent() == Descent()
