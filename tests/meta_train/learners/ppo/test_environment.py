"""The updates between two pauses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.learners.ppo.environment import Environment, Run, stretch
from tasks.families.mlp import MLPClassifier


@pytest.mark.parametrize("steps", [3, 6, 8])
def test_blocks_change_nothing_and_the_first_of_each_is_told(steps):
    environment = Environment("wine", MLPClassifier("wine", widths=(4,)), pauses=1, steps=steps)
    family = environment.family
    data = jax.tree.map(jnp.asarray, family.load())

    def run(block):
        """(run, loss) of an update that notes in its state which steps were the first of one."""

        def update(grads, state, params, loss, first):
            count, firsts = state
            return jax.tree.map(lambda g: -0.1 * g, grads), (
                count + 1,
                firsts.at[count].set(first),
            )

        task = family.task(family.sample(jax.random.key(0)), data)
        params = task.init(jax.random.key(1))
        state = jnp.array(0), jnp.zeros(steps, bool)
        start = Run(params, state, task.gradient.init(params))
        return stretch(environment, task, start, jax.random.key(2), update, block)

    alone, loss = jax.jit(lambda: run(1))()
    joined, same_loss = jax.jit(lambda: run(4))()
    np.testing.assert_allclose(same_loss, loss, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(joined.params), jax.tree.leaves(alone.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert alone.state[1].all()
    assert joined.state[1].tolist() == [number % 4 == 0 for number in range(steps)]
