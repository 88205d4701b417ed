"""Inner problems small enough for closed forms."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from meta_train.inner.unroll import Episodes
from tasks.base import Task


@dataclass(frozen=True)
class Descent:
    """Gradient descent whose rate is theta."""

    def init(self, key):
        del key
        return {"rate": jnp.float32(0.1)}

    def opt(self, theta, horizon, key=None, learning_rate=None):
        del horizon, key, learning_rate
        return optax.with_extra_args_support(optax.sgd(theta["rate"]))


@dataclass(frozen=True)
class Parabola:
    """x^2 / 2 from x = `start`; with `poison`, the loss is that number instead."""

    start: float = 2.0
    poison: float | None = None
    bound: float | None = 0.0
    name: str = "parabola"

    def load(self):
        return ()

    def sample(self, key):
        del key
        return ()

    def task(self, cfg, data):
        del cfg, data

        def loss(params, key, batch):
            del key, batch
            value = 0.5 * params["x"] ** 2
            return value if self.poison is None else value * self.poison

        init = lambda key: {"x": jnp.float32(self.start)}
        return Task(init, lambda key, split: (), lambda split: (), loss, self.bound)


@dataclass(frozen=True)
class NoisyLine:
    """(x - batch)^2 / 2 with a random start and random batches from the data."""

    name: str = "noisy_line"

    def load(self):
        return {"rows": jnp.linspace(-1.0, 1.0, 64)}

    def sample(self, key):
        return {"shift": jax.random.normal(key)}

    def task(self, cfg, data):
        def batch(key, split):
            del split
            return data["rows"][jax.random.randint(key, (8,), 0, 64)] + cfg["shift"]

        def loss(params, key, batch):
            del key
            return 0.5 * jnp.mean((params["x"] - batch) ** 2)

        init = lambda key: {"x": 3.0 + jax.random.normal(key)}
        return Task(init, batch, lambda split: data["rows"] + cfg["shift"], loss, 0.0)


def by_loss():
    """Makes every update as large as `value` + 2 `eval_value`, and remembers both."""

    def update(updates, state, params=None, *, value, eval_value, **extra):
        del state, params, extra
        larger = jax.tree.map(lambda u: u * (value + 2 * eval_value), updates)
        return larger, {"value": value, "eval_value": eval_value}

    none = {"value": jnp.zeros(()), "eval_value": jnp.zeros(())}
    return optax.GradientTransformationExtraArgs(lambda params: none, update)


def parabola(horizons, **fields):
    return Episodes(Parabola(**fields), Descent(), horizons)
