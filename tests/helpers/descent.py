"""What Adam makes of a task, for tests that a family can be learned."""

import jax
import jax.numpy as jnp
import optax


def trained(family, steps=300, rate=1e-2):
    """Losses on the whole training split before and after Adam, and the last parameters."""
    arrays = jax.tree.map(jnp.asarray, family.load())
    optimizer = optax.adam(rate)

    @jax.jit
    def run(arrays, key):
        task = family.task(family.sample(key), arrays)
        params = task.init(key)

        def step(carry, key):
            params, state = carry
            grads = jax.grad(task.loss)(params, key, task.batch(key, "train"))
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(params, updates), state), None

        carry = (params, optimizer.init(params))
        (last, _), _ = jax.lax.scan(step, carry, jax.random.split(key, steps))
        return [task.loss(point, key, task.whole("train")) for point in (params, last)], last

    losses, params = run(arrays, jax.random.key(0))
    return float(losses[0]), float(losses[1]), params
