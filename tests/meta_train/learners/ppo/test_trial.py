"""Controllers and rules on one task, run by run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt import make
from learned_opt.controller.lhopt import LHOPT
from meta_train.learners.ppo.environment import Environment
from meta_train.learners.ppo.trial import by_controller, by_rule, greedy, play
from tasks.families.mlp import MLPClassifier

RULE = LHOPT(registers=0, dense=4, lstm=4, trunk=4)
ENVIRONMENT = Environment("wine", MLPClassifier("wine", widths=(4,)), pauses=3, steps=6)
NOOP = jnp.array([action.neutral for action in RULE.control.table])
FASTER = NOOP.at[0].set(6)


@pytest.fixture(scope="module")
def tried():
    """{what made the updates: its run}, all with one key."""
    data = jax.tree.map(jnp.asarray, ENVIRONMENT.family.load())
    plan = greedy(RULE, RULE.init(jax.random.key(1)), ENVIRONMENT.pauses)

    @jax.jit
    def asked(plan):
        return play(ENVIRONMENT, data, jax.random.key(0), by_controller(RULE, plan, 3))

    def forced(choices):
        return asked(plan._replace(choices=jnp.tile(choices, (3, 1)), forced=jnp.array(True)))

    def ruled(rule):
        run = jax.jit(lambda: play(ENVIRONMENT, data, jax.random.key(0), by_rule(rule)))
        return run()

    return {
        "own": asked(plan),
        "nothing": forced(NOOP),
        "faster": forced(FASTER),
        "ciao": ruled(make("ciao", one_minus_b2=1e-2)),
        "diverging": ruled(optax.sgd(1e9)),
    }


def test_a_controller_that_changes_nothing_is_the_rule_it_drives(tried):
    np.testing.assert_allclose(tried["nothing"].valid, tried["ciao"].valid, rtol=1e-5)
    np.testing.assert_allclose(tried["nothing"].test, tried["ciao"].test, rtol=1e-5)
    assert tried["nothing"].test[-1] != pytest.approx(float(tried["nothing"].valid[-1]), rel=1e-3)


def test_forced_choices_take_the_place_of_its_own(tried):
    rates = tried["faster"].noted.values["learning_rate"]
    np.testing.assert_allclose(rates, [2e-3, 4e-3, 8e-3], rtol=1e-6)
    assert (tried["faster"].noted.choices == FASTER).all()
    assert not (tried["own"].noted.choices == tried["faster"].noted.choices).all()


def test_runs_of_one_key_begin_alike_and_say_whether_they_diverged(tried):
    starts = {float(run.valid[0]) for run in tried.values()}
    assert len(starts) == 1
    assert {name: bool(run.diverged) for name, run in tried.items() if run.diverged} == {
        "diverging": True
    }
