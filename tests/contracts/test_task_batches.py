"""A vmapped batch of tasks is the same as the tasks one by one, for every registered family."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tasks import FAMILIES

TASKS = 32
STEPS = 2


def losses(family, data, key):
    """Of a few steps of gradient descent on one task."""
    cfg_key, init_key, steps_key = jax.random.split(key, 3)
    task = family.task(family.sample(cfg_key), data)
    tx = optax.normalize_by_update_norm(scale_factor=1e-2)

    def step(params, step_key):
        batch_key, loss_key = jax.random.split(step_key)
        batch = task.batch(batch_key, "train")
        value, grads = jax.value_and_grad(task.loss)(params, loss_key, batch)
        updates, _ = tx.update(grads, tx.init(params))
        return jax.tree.map(jnp.subtract, params, updates), value

    params = task.init(init_key)
    return jax.lax.scan(step, params, jax.random.split(steps_key, STEPS))[1]


# Seconds of compilation each; what they share with the others is tested there.
LARGE = {
    "conv_language_model",
    "conv_pooling",
    "mlp_mixer",
    "mlp_vae",
    "parity",
    "resnet",
    "transformer_language_model",
    "vision_transformer",
}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] * (kind in LARGE)) for kind in FAMILIES],
)
def test_a_batch_of_tasks_equals_single_tasks(kind):
    family = FAMILIES[kind]()
    data = jax.tree.map(jnp.asarray, family.load())
    keys = jax.random.split(jax.random.key(0), TASKS)
    together = jax.jit(jax.vmap(lambda data, key: losses(family, data, key), (None, 0)))
    single = jax.jit(lambda data, key: losses(family, data, key))
    found = np.asarray(together(data, keys))
    wanted = np.stack([np.asarray(single(data, key)) for key in keys])
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)
    assert len(np.unique(found[:, 0])) == TASKS
