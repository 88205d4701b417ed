import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.toys import Descent, NoisyLine

from meta_train.inner.horizons import Fixed
from meta_train.inner.objectives import (
    OBJECTIVES,
    ExcessLoss,
    FinalLoss,
    LogLoss,
    MeanLoss,
    MinLoss,
    NormalizedLoss,
)
from meta_train.inner.unroll import Episodes, Trajectory, start, unroll


def trajectory(loss, bound=1.0):
    steps = len(loss)
    return Trajectory(
        loss=jnp.asarray(loss),
        initial_loss=jnp.full(steps, 5.0),
        previous=jnp.asarray([jnp.nan, *loss[:-1]]),
        best=jnp.asarray(np.fmin.accumulate(loss)),
        previous_best=jnp.asarray([jnp.nan, *np.fmin.accumulate(loss)[:-1]]),
        lower_bound=None if bound is None else jnp.full(steps, bound),
        step=jnp.arange(steps),
        horizon=jnp.full(steps, steps),
        fresh=jnp.zeros(steps, bool),
    )


def test_log_loss_is_relative_to_start_and_bound():
    values = LogLoss(eps=1e-6)(trajectory([5.0, 3.0, 1.4]))
    np.testing.assert_allclose(values, np.log([1.0, 0.5, 0.1]), atol=1e-4)


def test_log_loss_at_or_below_the_bound_saturates_at_log_eps():
    values = LogLoss(eps=1e-6)(trajectory([1.0, 0.9]))
    np.testing.assert_allclose(values, np.log(1e-6), rtol=1e-5)


def test_the_tail_alone_counts_and_weighs_as_much_as_a_whole_run():
    values = LogLoss(eps=1e-6, tail=0.25)(trajectory([5.0] * 6 + [3.0] * 2))
    np.testing.assert_allclose(values[:6], 0.0)
    np.testing.assert_allclose(jnp.mean(values), np.log(0.5), atol=1e-4)


@pytest.mark.parametrize(
    "objective",
    [make() for kind, make in OBJECTIVES.items() if kind != "min_loss"],
    ids=[kind for kind in OBJECTIVES if kind != "min_loss"],
)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_a_diverged_step_is_worth_the_cap(objective, bad):
    values = objective(trajectory([5.0, bad]))
    assert values[1] == objective.clip
    assert objective.at_cap(trajectory([5.0, bad])).tolist() == [False, True]


def test_the_others():
    path = trajectory([5.0, 2.0], bound=None)
    np.testing.assert_allclose(MeanLoss()(path), [5.0, 2.0])
    np.testing.assert_allclose(NormalizedLoss()(path), [1.0, 0.4], rtol=1e-5)
    np.testing.assert_allclose(ExcessLoss()(trajectory([5.0, 2.0])), [1.0, 0.25], rtol=1e-5)
    np.testing.assert_allclose(FinalLoss()(path), [0.0, 2.0])
    np.testing.assert_allclose(FinalLoss(telescoped=True)(path), [5.0, -3.0])


def test_the_lowest_loss_adds_up_and_survives_divergence():
    values = MinLoss(telescoped=True)(trajectory([5.0, 7.0, 2.0, 3.0, np.nan, 1e30]))
    np.testing.assert_allclose(values, [5.0, 0.0, -3.0, 0.0, 0.0, 0.0])
    values = MinLoss(telescoped=True)(trajectory([np.inf, 4.0, 3.0]))
    np.testing.assert_allclose(values, [10.0, -6.0, -1.0])
    np.testing.assert_allclose(MinLoss()(trajectory([5.0, 2.0, np.nan])), [0.0, 0.0, 2.0])


def test_what_steps_are_worth_adds_up_over_runs_and_windows():
    """Two windows, in the second of which a run of 5 steps ends and another begins."""
    episodes, data = Episodes(NoisyLine(), Descent(), Fixed(5)), NoisyLine().load()
    theta, seen = {"rate": jnp.float32(0.7)}, []
    inner = start(episodes, data, theta, jax.random.key(3), 0)
    window = jax.jit(lambda inner, key: unroll(episodes, data, theta, inner, key, 0, 4))
    for i in range(2):
        inner, part = window(inner, jax.random.key(i))
        seen.append(part)
    both = jax.tree.map(lambda *x: jnp.concatenate(x), *seen)
    first, second = np.split(np.asarray(both.loss), [5])
    ends = [[first[-1], second[-1]], [first.min(), second.min()]]
    for objective, expected in zip((FinalLoss, MinLoss), ends, strict=True):
        parts = np.split(np.asarray(objective(telescoped=True)(both)), [5])
        np.testing.assert_allclose([part.sum() for part in parts], expected, rtol=1e-5)
    np.testing.assert_allclose(FinalLoss()(both), [0, 0, 0, 0, first[-1], 0, 0, 0])


@pytest.mark.parametrize("field", [{"eps": 0.0}, {"tail": 0.0}, {"tail": 1.5}, {"clip": -1.0}])
def test_settings_that_make_no_sense_are_refused(field):
    name = next(iter(field))
    with pytest.raises(ValueError, match=f"objective.{name}"):
        LogLoss(**field)
