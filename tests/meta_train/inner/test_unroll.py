from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.toys import Descent, NoisyLine, parabola

from learned_opt.base import reads_eval_value
from meta_train.evaluation.programs import AsDeployed, build_program
from meta_train.evaluation.robustness import FixedHorizon
from meta_train.inner.horizons import Fixed
from meta_train.inner.unroll import Episodes, start, unroll

THETA = {"rate": jnp.float32(0.1)}


def test_losses_are_those_of_gradient_descent():
    episodes = parabola(Fixed(6))
    inner = start(episodes, (), THETA, jax.random.key(0), 0)
    inner, seen = unroll(episodes, (), THETA, inner, jax.random.key(1), 0, 6)
    np.testing.assert_allclose(seen.loss, 2.0 * 0.9 ** (2 * np.arange(6)), rtol=1e-5)
    np.testing.assert_array_equal(seen.step, np.arange(6))
    np.testing.assert_allclose(inner.params["x"], 2.0 * 0.9**6, rtol=1e-5)
    assert not seen.fresh.any()


def test_a_finished_run_is_replaced_in_place():
    episodes = parabola(Fixed(4))
    inner = start(episodes, (), THETA, jax.random.key(0), 0)
    inner, first = unroll(episodes, (), THETA, inner, jax.random.key(1), 0, 3)
    inner, second = unroll(episodes, (), THETA, inner, jax.random.key(2), 0, 3)
    np.testing.assert_array_equal(np.concatenate([first.step, second.step]), [0, 1, 2, 3, 0, 1])
    np.testing.assert_array_equal(second.fresh, [False, True, True])
    np.testing.assert_allclose(second.loss[1:], first.loss[:2], rtol=1e-6)


def test_one_key_means_one_stream_whatever_theta_is():
    episodes = Episodes(NoisyLine(), Descent(), Fixed(9))
    data = NoisyLine().load()
    losses = []
    for rate in (0.0, 0.0, 0.3):
        theta = {"rate": jnp.float32(rate)}
        inner = start(episodes, data, theta, jax.random.key(0), 0)
        losses.append(unroll(episodes, data, theta, inner, jax.random.key(1), 0, 5)[1].loss)
    np.testing.assert_array_equal(losses[0], losses[1])
    assert losses[2][0] == losses[0][0] and (losses[2][1:] != losses[0][1:]).all()


def test_the_measured_split_is_taken_whole():
    episodes = Episodes(NoisyLine(), Descent(), Fixed(9), measure="outer_valid")
    data = NoisyLine().load()
    theta = {"rate": jnp.float32(0.0)}
    inner = start(episodes, data, theta, jax.random.key(0), 0)
    _, seen = unroll(episodes, data, theta, inner, jax.random.key(1), 0, 4)
    rows = np.asarray(data["rows"]) + float(inner.cfg["shift"])
    whole = 0.5 * np.mean((float(inner.params["x"]) - rows) ** 2)
    np.testing.assert_allclose(seen.loss, whole, rtol=1e-5)
    np.testing.assert_allclose(inner.initial_loss, whole, rtol=1e-5)


def test_data_is_an_argument_not_a_constant():
    episodes = Episodes(NoisyLine(), Descent(), Fixed(9))
    data = {"rows": jnp.linspace(-1.0, 1.0, 50_000)}

    def run(data):
        inner = start(episodes, data, THETA, jax.random.key(0), 0)
        return unroll(episodes, data, THETA, inner, jax.random.key(1), 0, 3)[1].loss

    assert len(jax.jit(run).lower(data).as_text()) < 200_000


class Marked(NoisyLine):
    """Minibatches of inner_valid lie a hundred away from all others."""

    def task(self, cfg, data):
        task = super().task(cfg, data)
        batch = lambda key, split: task.batch(key, split) + 100.0 * (split == "inner_valid")
        return task._replace(batch=batch)


@dataclass(frozen=True)
class Listener(Descent):
    """Descent that remembers the losses it is given, NaN for none, and the parameters then."""

    reads_eval_value: bool = True

    def opt(self, theta, horizon, key=None, learning_rate=None):
        descent = super().opt(theta, horizon)

        def update(updates, state, params=None, **extra):
            heard = [extra.get(name, jnp.nan) for name in ("value", "eval_value")]
            return descent.update(updates, descent.init(params))[0], (jnp.stack(heard), params["x"])

        init = lambda params: (jnp.zeros(2), jnp.zeros(()))
        return optax.GradientTransformationExtraArgs(init, update)


def heard(optimizer, family):
    """(training loss, validation loss, x) that the rule was told at its second step."""
    episodes, data = Episodes(family, optimizer, Fixed(9)), family.load()

    @jax.jit
    def run():
        inner = start(episodes, data, THETA, jax.random.key(0), 0)
        return unroll(episodes, data, THETA, inner, jax.random.key(1), 0, 2)[0]

    inner = run()
    return *inner.opt_state[0], inner.opt_state[1], inner.cfg["shift"]


def test_rules_that_read_a_validation_loss_hear_that_of_an_inner_valid_minibatch():
    value, validation, x, shift = heard(Listener(), Marked())
    away = 100.0 + float(shift) - float(x)  # the minibatch's mean is within 1 of that, squared
    assert (away - 1.0) ** 2 / 2 < validation < (away + 1.0) ** 2 / 2 + 0.5
    unheard, none, *rest = heard(Listener(reads_eval_value=False), Marked())
    assert np.isnan(none) and unheard == value and rest == [x, shift]  # the same random numbers


def test_a_task_without_splits_gives_a_fresh_minibatch():
    value, validation, *_ = heard(Listener(), NoisyLine())
    assert validation != value and abs(validation - value) < 5.0


@pytest.mark.parametrize("wrapped", [AsDeployed(Listener()), FixedHorizon(Listener(), 3)])
def test_evaluations_feed_the_rule_as_meta_training_does(wrapped):
    assert reads_eval_value(wrapped) and not reads_eval_value(AsDeployed(Descent()))


def test_a_program_of_the_evaluation_feeds_the_rule():
    """The rate of this rule is 0 unless it hears a validation loss."""

    class Stubborn(Listener):
        def opt(self, theta, horizon, key=None, learning_rate=None):
            def update(updates, state, params=None, *, eval_value=0.0, **extra):
                return jax.tree.map(lambda g: -0.1 * g * (eval_value > 0.0), updates), state

            return optax.GradientTransformationExtraArgs(lambda params: (), update)

    for rule, moves in ((Stubborn(), True), (Stubborn(reads_eval_value=False), False)):
        program = build_program(NoisyLine(), rule, 4, 1, ("train",))
        before, after = program(NoisyLine().load(), (THETA, None), jnp.arange(1)).losses[0][0]
        assert (after < before) == moves
