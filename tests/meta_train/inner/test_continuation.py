"""Runs that go on from a kept state: which state is kept, how the run goes on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.toys import Descent, NoisyLine, Parabola

from meta_train.estimators import ESTIMATORS, PES
from meta_train.inner.continuation import Buffer, Resume, risen
from meta_train.inner.horizons import Fixed
from meta_train.inner.objectives import MeanLoss
from meta_train.inner.unroll import Episodes, start, unroll

STEP = jnp.int32(0)
THETA = {"rate": jnp.float32(0.1)}


def windows(probability, count, length=4, horizon=4):
    """The trajectories of consecutive windows of one task."""
    resume = None if probability is None else Resume(probability)
    episodes = Episodes(Parabola(start=2.0), Descent(), Fixed(horizon), resume=resume)
    inner, seen = start(episodes, (), THETA, jax.random.key(0), STEP), []
    run = jax.jit(lambda inner, key: unroll(episodes, (), THETA, inner, key, STEP, length))
    for key in jax.random.split(jax.random.key(1), count):
        inner, trajectory = run(inner, key)
        seen.append(jax.device_get(trajectory))
    return seen


def test_never_going_on_is_as_without_a_buffer():
    for a, b in zip(windows(1e-9, 3), windows(None, 3), strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_always_going_on_makes_one_long_run():
    """Horizon 4 in windows of 4: each window goes on from where the one before ended."""
    seen = windows(1.0, 3)
    found = np.concatenate([t.loss for t in seen])
    np.testing.assert_allclose(found, 2.0 * 0.9 ** (2 * np.arange(12)), rtol=1e-5)
    assert np.concatenate([t.step for t in seen]).tolist() == list(range(12))
    assert [int(t.horizon[0]) for t in seen] == [4, 8, 12]
    assert all((t.initial_loss == 2.0).all() for t in seen)


def test_a_run_that_ends_inside_a_window_is_gone_on_with_from_its_end():
    """Horizon 5 in windows of 4: the end is kept in the window in which another run begins."""
    seen = windows(1.0, 6, horizon=5)
    steps = np.concatenate([t.step for t in seen])
    assert steps[:5].tolist() == [0, 1, 2, 3, 4]
    ends = [int(t.horizon[-1]) for t in seen]
    assert ends[:2] == [5, 5] and max(ends) >= 10


@pytest.mark.parametrize("rate", [0.1, 1e30])
def test_states_that_are_not_finite_are_not_kept(rate):
    episodes = Episodes(Parabola(start=2.0), Descent(), Fixed(4), resume=Resume(1.0))
    theta = {"rate": jnp.float32(rate)}
    inner = start(episodes, (), theta, jax.random.key(0), STEP)
    inner, _ = unroll(episodes, (), theta, inner, jax.random.key(1), STEP, 4)
    assert np.isfinite(inner.params["x"]) == (rate == 0.1)
    assert np.isfinite(inner.buffer.saved.params["x"])
    assert inner.buffer.saved.step == (4 if rate == 0.1 else 0)


@pytest.mark.parametrize("kind", ["es", "full_backprop", "pes_backprop"])
def test_estimators_that_cannot_go_on_refuse_it(kind):
    episodes = Episodes(Parabola(), Descent(), Fixed(4), resume=Resume())
    fields = {} if kind == "full_backprop" else {"length": 4}
    with pytest.raises(ValueError, match="resume: this estimator"):
        ESTIMATORS[kind](episodes, MeanLoss(), **fields)


def test_the_share_of_runs_that_go_on():
    seen = windows(0.25, 400)
    went_on = np.asarray([t.step[0] > 0 for t in seen[1:]])
    assert abs(went_on.mean() - 0.25) < 4 * (0.25 * 0.75 / len(went_on)) ** 0.5


def test_the_cumulative_sum_of_rises():
    losses = [3.0, 2.0, 2.5, 2.25, 3.0, np.inf, 0.0]
    buffer, rises = Buffer((), jnp.zeros(()), jnp.zeros(())), []
    for loss, previous in zip(losses[1:], losses[:-1], strict=True):
        rise, highest = risen(buffer, jnp.float32(loss), jnp.float32(previous))
        buffer = Buffer((), rise, highest)
        rises.append(float(rise))
    assert rises == [0.0, 0.5, 0.25, 1.0, 1.0, 1.0]
    assert float(buffer.highest) == 1.0


def test_both_halves_of_a_pair_go_on_from_one_state():
    episodes = Episodes(NoisyLine(), Descent(), Fixed(4), resume=Resume(1.0))
    estimator = PES(episodes, MeanLoss(), length=4, std=0.05)
    data = episodes.family.load()
    state = estimator.init(THETA, data, jax.random.key(0), STEP)
    state = state._replace(inner=state.inner._replace(horizon=jnp.array([4, 4], jnp.int32)))
    run = jax.jit(lambda state, key: estimator.estimate(THETA, data, state, key, STEP))
    _, state, _ = run(state, jax.random.key(1))
    ended = np.asarray(state.inner.buffer.saved.params["x"])
    assert ended[0] != ended[1]
    _, after, _ = run(state, jax.random.key(2))
    np.testing.assert_array_equal(after.inner.initial_loss[0], after.inner.initial_loss[1])
    assert after.inner.step.tolist() == [8, 8]


def test_a_probability_is_between_0_and_1():
    with pytest.raises(ValueError, match="probability: 1.5 is not allowed"):
        Resume(1.5)
