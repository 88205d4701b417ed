import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.objectives import OBJECTIVES, FinalLoss, LogLoss, MeanLoss, NormalizedLoss
from meta_train.unroll import Trajectory


def trajectory(loss, bound=1.0):
    steps = len(loss)
    return Trajectory(
        loss=jnp.asarray(loss),
        initial_loss=jnp.full(steps, 5.0),
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


@pytest.mark.parametrize("objective", [make() for make in OBJECTIVES.values()], ids=OBJECTIVES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_a_diverged_step_is_worth_the_cap(objective, bad):
    values = objective(trajectory([5.0, bad]))
    if bad == -np.inf and isinstance(objective, LogLoss):
        assert values[1] <= objective.clip  # below the bound: as good as it gets
    else:
        assert values[1] == objective.clip


def test_the_others():
    path = trajectory([5.0, 2.0], bound=None)
    np.testing.assert_allclose(MeanLoss()(path), [5.0, 2.0])
    np.testing.assert_allclose(NormalizedLoss()(path), [1.0, 0.4], rtol=1e-5)
    np.testing.assert_allclose(FinalLoss()(path), [0.0, 2.0])


@pytest.mark.parametrize("field", [{"eps": 0.0}, {"tail": 0.0}, {"tail": 1.5}, {"clip": -1.0}])
def test_settings_that_make_no_sense_are_refused(field):
    name = next(iter(field))
    with pytest.raises(ValueError, match=f"objective.{name}"):
        LogLoss(**field)
