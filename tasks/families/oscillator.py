"""A damped oscillator solved by a network, which must find the start as well as the motion."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Task
from tasks.families.layers import ACTIVATIONS, mlp_apply
from tasks.families.physics import derivatives, interval_task
from tasks.names import check_at_least, check_name, check_range
from tasks.sampling import log_uniform, task_key


def solution(
    frequency: Float[Array, ""], damping: Float[Array, ""], t: Float[Array, "*n"]
) -> Float[Array, "*n"]:
    """u(t) with u'' + 2 d w u' + w^2 u = 0, u(0) = 1, u'(0) = 0, for w > 0 and 0 <= d < 1."""
    decay = damping * frequency
    waves = frequency * jnp.sqrt(1 - damping**2)
    return jnp.exp(-decay * t) * (jnp.cos(waves * t) + decay / waves * jnp.sin(waves * t))


@dataclass(frozen=True)
class OscillatorNetwork:
    """u'' + 2 d w u' + w^2 u = 0 on (0, 1) with u(0) = 1 and u'(0) = 0, where u is a network.

    The loss is the mean of (residual / w^2)^2 at times drawn afresh for every minibatch, plus
    (u(0) - 1)^2 + (u'(0) / w)^2: u = 0 costs 1 and `solution` costs 0. frequency, damping: bounds
    of w, log-uniform, and of d, its logarithm uniform and below 1. widths, activation: of the
    network. seed: of both numbers; None draws others for every task.
    """

    loss: ClassVar[str] = "residual_and_start"
    frequency: tuple[float, float] = (4.0, 12.0)
    damping: tuple[float, float] = (0.02, 0.3)
    widths: tuple[int, ...] = (16, 16)
    activation: str = "tanh"
    batch_size: int = 32
    seed: int | None = None
    name: str = "oscillator_network"

    def __post_init__(self):
        check_range("frequency", self.frequency)
        check_range("damping", self.damping)
        if self.damping[1] >= 1:
            raise ValueError(f"damping: {self.damping} is not allowed; it must be below 1")
        check_name("activation", self.activation, ACTIVATIONS)
        check_at_least(1, widths=min(self.widths, default=0), batch_size=self.batch_size)

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        frequency_key, damping_key = jax.random.split(task_key(key, self.seed))
        return {
            "frequency": log_uniform(frequency_key, self.frequency),
            "damping": log_uniform(damping_key, self.damping),
        }

    def value(self, params: Params, t: Float[Array, " n"]) -> Float[Array, " n"]:
        """u at times in 0 .. 1."""
        return mlp_apply(params, 2 * t[:, None] - 1, self.activation)[:, 0]

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data
        w, d = cfg["frequency"], cfg["damping"]

        def loss(params: Params, batch: Batch) -> Float[Array, ""]:
            times = jnp.concatenate([jnp.zeros(1), batch])
            u, speed, force = derivatives(lambda t: self.value(params, t), times)
            residual = force[1:] / w**2 + 2 * d * speed[1:] / w + u[1:]
            return jnp.mean(residual**2) + (u[0] - 1) ** 2 + (speed[0] / w) ** 2

        return interval_task(self.widths, self.batch_size, loss)
