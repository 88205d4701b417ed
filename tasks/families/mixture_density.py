"""Mixture density networks: a whole distribution is fitted for every input."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Split, Task
from tasks.families.generated import by_split
from tasks.families.layers import ACTIVATIONS, mlp_apply, mlp_init
from tasks.names import check_at_least, check_name
from tasks.sampling import minibatch, task_key

_LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class MixtureDensityNetwork:
    """The distribution of y given x = y + a sin(2 pi y) + noise, where up to three y fit one x.

    For every x a network gives the weights, means and widths of a mixture of normal distributions
    (Bishop 1994); the loss is the mean of -log p(y | x) in nats. y is uniform on 0 .. 1, a uniform
    on 0.2 .. 0.4 for every task. components: of the mixture. noise: standard deviation. examples:
    of the train split. least_width: what no component is narrower than. widths, activation: of the
    network. seed: of a and of the examples; None draws others for every task.
    """

    loss: ClassVar[str] = "log_likelihood"
    components: int = 5
    noise: float = 0.03
    examples: int = 512
    least_width: float = 0.01
    widths: tuple[int, ...] = (32,)
    activation: str = "tanh"
    batch_size: int = 32
    seed: int | None = None
    name: str = "mixture_density_network"

    def __post_init__(self):
        check_name("activation", self.activation, ACTIVATIONS)
        check_at_least(
            1,
            components=self.components,
            examples=self.examples,
            widths=min(self.widths, default=1),
            batch_size=self.batch_size,
        )
        check_at_least(0, noise=self.noise)
        if not self.least_width > 0:
            raise ValueError(f"least_width: {self.least_width} is not allowed; it must be above 0")

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        bend_key, key = jax.random.split(task_key(key, self.seed))
        bend = jax.random.uniform(bend_key, minval=0.2, maxval=0.4)

        def draw(key: PRNGKeyArray, count: int) -> Data:
            place_key, noise_key = jax.random.split(key)
            y = jax.random.uniform(place_key, (count,))
            noise = self.noise * jax.random.normal(noise_key, (count,))
            return {"x": y + bend * jnp.sin(2 * math.pi * y) + noise, "y": y}

        return by_split(key, self.examples, draw)

    def log_density(
        self, params: Params, x: Float[Array, " n"], y: Float[Array, " n"]
    ) -> Float[Array, " n"]:
        """log p(y | x)."""
        output = mlp_apply(params, 2 * x[:, None] - 1, self.activation)
        weight, mean, raw = jnp.split(output, 3, axis=-1)
        log_width = jnp.logaddexp(raw, math.log(self.least_width))
        apart = (y[:, None] - mean) * jnp.exp(-log_width)
        log_normal = -0.5 * apart**2 - log_width - _LOG_ROOT_2PI
        return jax.nn.logsumexp(jax.nn.log_softmax(weight) + log_normal, axis=-1)

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data
        sizes = (1, *self.widths, 3 * self.components)

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            return minibatch(key, self.batch_size, cfg[split])

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            del key
            return -jnp.mean(self.log_density(params, batch["x"], batch["y"]))

        # A hair below the narrowest component's peak, which rounding may pass.
        bound = math.log(self.least_width) + _LOG_ROOT_2PI - 1e-4
        return Task(lambda key: mlp_init(key, sizes), batch, lambda s: cfg[s], loss, bound)
