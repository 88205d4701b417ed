"""Checks a task against a formula written again in NumPy, in double precision."""

import jax
import numpy as np
import optax
from jax.flatten_util import ravel_pytree


def agrees(task, params, batch, formula, rtol=1e-4):
    """Loss equal to formula(params), gradient equal to its central differences.

    params: a pytree of float32 arrays; `formula` gets them as float64.
    """
    loss, grads = jax.jit(jax.value_and_grad(task.loss))(params, jax.random.key(0), batch)
    flat, unflatten = ravel_pytree(params)
    flat = np.float64(flat)

    def value(flat):
        sizes = [np.size(leaf) for leaf in jax.tree.leaves(params)]
        parts = np.split(flat, np.cumsum(sizes)[:-1])
        leaves = [
            part.reshape(np.shape(leaf))
            for part, leaf in zip(parts, jax.tree.leaves(params), strict=True)
        ]
        return formula(jax.tree.unflatten(jax.tree.structure(params), leaves))

    np.testing.assert_allclose(loss, value(flat), rtol=rtol)
    steps = 1e-6 * np.eye(flat.size)
    slope = np.array([(value(flat + step) - value(flat - step)) / 2e-6 for step in steps])
    np.testing.assert_allclose(
        ravel_pytree(grads)[0], slope, rtol=10 * rtol, atol=rtol * np.abs(slope).max() + 1e-6
    )


def drawn(family, seed=0):
    """The cfg of a task, the task and its starting parameters."""
    cfg_key, init_key = jax.random.split(jax.random.key(seed))
    data = family.load()

    @jax.jit
    def start():
        cfg = family.sample(cfg_key)
        return cfg, family.task(cfg, data).init(init_key)

    cfg, params = start()
    return cfg, family.task(cfg, data), params


def distorted(task, grads, seed=0):
    """What the optimizer sees of a gradient."""
    state = task.gradient.init(grads)
    update = optax.with_extra_args_support(task.gradient).update
    seen, _ = update(grads, state, grads, key=jax.random.key(seed))
    return seen
