"""The gradient of an inner step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from helpers.toys import NoisyLine

from meta_train.inner.step import gradient_at


def test_it_is_that_of_the_minibatch_as_the_task_distorts_it():
    family = NoisyLine()
    task = family.task({"shift": jnp.float32(0.5)}, family.load())
    task = task._replace(gradient=optax.trace(0.5))  # a task that adds half of the last gradient
    keys = jax.random.split(jax.random.key(0), 3)
    params = {"x": jnp.float32(2.0)}
    first = gradient_at(task, params, task.gradient.init(params), *keys)
    batch = task.batch(keys[0], "train")
    np.testing.assert_array_equal(first.batch, batch)
    np.testing.assert_allclose(first.loss, 0.5 * np.mean((2.0 - batch) ** 2), rtol=1e-6)
    np.testing.assert_allclose(first.grads["x"], 2.0 - np.mean(batch), rtol=1e-6)
    second = gradient_at(task, params, first.state, *keys)
    np.testing.assert_allclose(second.grads["x"], 1.5 * first.grads["x"], rtol=1e-6)
