"""update_where against jnp.where, and what it runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.branch import update_where

counted = []


def update(old, factor):
    jax.debug.callback(lambda: counted.append(1), ordered=False)
    return {"x": old["x"] * factor + 1.0}


def one(due, x, factor):
    return update_where(due, update, {"x": x}, factor)["x"]


def ran(function, *arguments):
    counted.clear()
    found = jax.block_until_ready(jax.jit(function)(*arguments))
    jax.effects_barrier()
    return found, len(counted)


x = jnp.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize("due", [jnp.zeros((3, 4), bool), x % 5 == 0, jnp.ones((3, 4), bool)])
def test_two_axes_of_runs_update_only_those_that_are_due(due):
    several = jax.vmap(jax.vmap(one, (0, 0, None)), (0, 0, None))
    found, runs = ran(several, due, x, 2.0)
    np.testing.assert_array_equal(found, jnp.where(due, 2 * x + 1, x))
    assert runs == int(jnp.sum(due))


def test_a_shared_condition_updates_all_at_once():
    several = jax.vmap(one, (None, 0, None))
    assert ran(several, True, x[0], 2.0)[1] >= 1
    found, runs = ran(several, False, x[0], 2.0)
    assert runs == 0
    np.testing.assert_array_equal(found, x[0])


def test_no_derivative_passes_through():
    slope = jax.grad(lambda x: jnp.sum(jax.vmap(one, (0, 0, None))(x[0] > 1, x[0], 2.0) + x[0]))(x)
    np.testing.assert_array_equal(slope, jnp.zeros((3, 4)).at[0].set(1.0))
