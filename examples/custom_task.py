"""A task family of your own in one file: small networks that learn sine waves.

Run it to see two optimizers on it. To meta-train on it, move the class to tasks/ and add one line
to FAMILIES in tasks/registry.py:  "sine_regression": SineRegression,
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

import learned_opt
from tasks import Task


@dataclass(frozen=True)
class SineRegression:
    """Mean squared error of a tanh network on amplitude * sin(3 x + phase), x in (-2, 2)."""

    hidden: int = 16
    batch_size: int = 32
    name: str = "sine_regression"

    def load(self):
        return ()  # arrays from disk would go here; they come back as `data` below

    def sample(self, key):
        amplitude, phase = jax.random.uniform(key, (2,))
        return {"amplitude": 0.5 + amplitude, "phase": 2 * jnp.pi * phase}

    def task(self, cfg, data):
        del data

        def examples(x):
            return {"x": x, "y": cfg["amplitude"] * jnp.sin(3 * x + cfg["phase"])}

        def init(key):
            inner, bias, outer = jax.random.split(key, 3)
            return {
                "inner": 2 * jax.random.normal(inner, (1, self.hidden)),
                "bias": 2 * jax.random.normal(bias, (self.hidden,)),
                "outer": jax.random.normal(outer, (self.hidden, 1)) / self.hidden,
            }

        def batch(key, split):
            del split  # endless data: every split is drawn from the same waves
            return examples(jax.random.uniform(key, (self.batch_size, 1), minval=-2.0, maxval=2.0))

        def loss(params, key, batch):
            del key
            hidden = jnp.tanh(batch["x"] @ params["inner"] + params["bias"])
            return jnp.mean((hidden @ params["outer"] - batch["y"]) ** 2)

        grid = jnp.linspace(-2, 2, 64)[:, None]
        return Task(init, batch, lambda split: examples(grid), loss, lower_bound=0.0)


def final_loss(family: SineRegression, tx: optax.GradientTransformationExtraArgs, steps: int):
    """The loss over the whole interval after `steps` updates on one sampled task."""
    cfg_key, init_key, run_key = jax.random.split(jax.random.key(0), 3)
    task = family.task(family.sample(cfg_key), family.load())
    params = task.init(init_key)

    def step(carry, key):
        params, state = carry
        value, grads = jax.value_and_grad(task.loss)(params, key, task.batch(key, "train"))
        updates, state = tx.update(grads, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), jax.random.split(run_key, steps))
    return task.loss(params, run_key, task.whole("test"))


if __name__ == "__main__":
    for name in ("adam", "relative_adam"):
        loss = final_loss(SineRegression(), learned_opt.make(name, num_steps=1000), steps=1000)
        print(f"{name}: loss {loss:.2g} after 1000 steps")
