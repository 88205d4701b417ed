"""Celo and Celo-Adam against their published numbers and a second implementation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.learned.celo import Celo
from learned_opt.learned.celo_adam import CeloAdam
from tests.learned_opt.learned.test_velo import LOSSES, agrees, tree, weights
from tests.learned_opt.learned.velo_oracle import CeloAdamOracle, CeloOracle

GRADIENTS = [tree(i, 1500.0 if i == 3 else 0.1) for i in range(1, 7)]


def test_weight_counts():
    for rule, count in ((Celo(), 37_089), (CeloAdam(), 36_865)):
        theta = jax.eval_shape(rule.init, jax.random.key(0))
        assert sum(leaf.size for leaf in jax.tree.leaves(theta)) == count


def test_six_steps_of_celo_agree_with_the_second_implementation():
    rule = Celo(hidden=5, exp_mult=0.3, step_mult=0.1)
    agrees(rule, CeloOracle, weights(rule, scale=0.3), tree(0, 0.5), GRADIENTS)


def test_six_steps_of_celo_adam_agree_with_the_second_implementation():
    rule = CeloAdam(hidden=5, step_mult=0.1)
    agrees(rule, CeloAdamOracle, weights(rule, scale=0.3), tree(0, 0.5), GRADIENTS)


def test_a_fresh_schedule_leaves_adam_as_it_is():
    """So does it leave Celo's network, which is trained first."""
    params, gradients = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.1, 5.0, -3.0])
    rule, adam = CeloAdam(hidden=3), optax.adam(1e-3)
    tx = rule.opt(rule.init(jax.random.key(0)), 50)
    state, reference = tx.init(params), adam.init(params)
    for loss in LOSSES:
        updates, state = tx.update(gradients, state, params, value=loss)
        want, reference = adam.update(gradients, reference, params)
        np.testing.assert_allclose(*jax.tree.leaves((updates, want)), rtol=1e-4)
    updates, _ = rule.opt(rule.init(jax.random.key(0)), 50, learning_rate=0.5).update(
        gradients, tx.init(params), params, value=1.0
    )
    want = -0.5 * jnp.sign(gradients)
    np.testing.assert_allclose(*jax.tree.leaves((updates, want)), rtol=1e-4)


@pytest.mark.parametrize(
    ("rule", "floats"),
    [
        (Celo(hidden=8), 4 * 600 + 3 * (20 + 30) + 7 * 7 + 2 * 8),
        (CeloAdam(hidden=8), 2 * 607 + 2 * 8),
    ],
    ids=["celo", "celo_adam"],
)
def test_state_sizes(rule, floats):
    params = {"w": jnp.zeros((20, 30)), "b": jnp.zeros(7)}
    state = rule.opt(rule.init(jax.random.key(0)), 10).init(params)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) - 1 - 30 == floats


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Celo, {"hidden": 0}),
        (Celo, {"units": 0}),
        (Celo, {"exp_mult": 0.0}),
        (CeloAdam, {"hidden": -2}),
        (CeloAdam, {"step_mult": float("inf")}),
    ],
)
def test_refuses_what_cannot_be(kind, wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name}: {value} is not allowed"):
        kind(**wrong)
