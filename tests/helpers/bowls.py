"""A task with two tensors, batches and gradient noise, small enough for closed forms."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tasks.base import Task


def noise(stdev):
    def update(updates, state, params=None, *, key, **extra):
        del params, extra
        keys = jax.tree.unflatten(jax.tree.structure(updates), jax.random.split(key, 2))
        add = lambda g, k: g + stdev * jax.random.normal(k, g.shape)
        return jax.tree.map(add, updates, keys), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


@dataclass(frozen=True)
class Bowl:
    """mean |a - target - row|^2 / 2 + |b|^2 / 2 + floor over the rows of a batch."""

    stdev: float = 0.3
    floor: float = 0.0
    bounded: bool = True
    name: str = "bowl"

    def load(self):
        return {"rows": np.linspace(-1.0, 1.0, 48, dtype=np.float32).reshape(16, 3)}

    def sample(self, key):
        return {"target": jax.random.normal(key, (3,))}

    def task(self, cfg, data):
        rows = jnp.asarray(data["rows"])

        def init(key):
            a, b = jax.random.split(key)
            return {"a": jax.random.normal(a, (3,)), "b": jax.random.normal(b, (2, 2))}

        def batch(key, split):
            del split
            index = jax.random.randint(key, (8,), 0, 16)
            return {"row": rows[index], "index": index}

        def loss(params, key, batch):
            del key
            away = params["a"] - cfg["target"].astype(params["a"].dtype) - batch["row"]
            fit = 0.5 * jnp.mean(jnp.sum(away**2, -1))
            return fit + 0.5 * jnp.sum(params["b"] ** 2) + self.floor

        whole = lambda split: {"row": rows, "index": jnp.arange(16)}
        bound = self.floor if self.bounded else None
        gradient = noise(self.stdev) if self.stdev else optax.identity()
        return Task(init, batch, whole, loss, bound, gradient)


def plain(family=None, seed=0):
    family = family or Bowl(stdev=0.0)
    return family.task(family.sample(jax.random.key(seed)), family.load())


def on(augmentation, task, seed=0, applied=True):
    """The task under the augmentation, and what was drawn for it."""
    cfg = augmentation.sample(jax.random.key(seed))
    return augmentation.wrap(task, cfg, jnp.asarray(applied)), cfg


def seen(task, gradients, params):
    """What the task's transformation makes of a sequence of gradients."""
    state, out = task.gradient.init(params), []
    for step, gradient in enumerate(gradients):
        gradient, state = optax.with_extra_args_support(task.gradient).update(
            gradient, state, params, key=jax.random.key(step)
        )
        out.append(gradient)
    return out
