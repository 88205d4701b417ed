"""A differential equation solved by a network: what is fitted is the residual, not data."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import SPLITS, Batch, Cfg, Data, Params, Split, Task
from tasks.families.layers import ACTIVATIONS, mlp_apply, mlp_init
from tasks.names import check_at_least, check_name
from tasks.sampling import task_key

WHOLE = 256  # points that stand for a whole split


def source(amplitudes: Float[Array, " modes"], x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """f(x) = sum_k a_k sin(k pi x), k = 1, 2, ..."""
    waves = math.pi * jnp.arange(1, amplitudes.shape[0] + 1)
    return jnp.sin(x[..., None] * waves) @ amplitudes


def solution(amplitudes: Float[Array, " modes"], x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """u(x) with u'' = f and u(0) = u(1) = 0: every wave over minus its squared frequency."""
    waves = math.pi * jnp.arange(1, amplitudes.shape[0] + 1)
    return source(-amplitudes / waves**2, x)


def derivatives(
    function: Callable[[Float[Array, " n"]], Float[Array, " n"]], x: Float[Array, " n"]
) -> tuple[Float[Array, " n"], Float[Array, " n"], Float[Array, " n"]]:
    """u(x), u'(x) and u''(x) of a function that takes each entry for itself."""
    ones = jnp.ones_like(x)

    def slope(x):
        return jax.jvp(function, (x,), (ones,))

    (value, first), (_, second) = jax.jvp(slope, (x,), (ones,))
    return value, first, second


def interval_task(
    widths: tuple[int, ...],
    batch_size: int,
    loss: Callable[[Params, Float[Array, " n"]], Float[Array, ""]],
) -> Task:
    """A network of one number in 0 .. 1, trained at points drawn afresh for every minibatch.

    widths: of the network's hidden layers. batch_size: points in a minibatch. loss: of the network
    and the points, at least 0. Whole splits are regular grids with no point in common.
    """

    def init(key: PRNGKeyArray) -> Params:
        return mlp_init(key, (1, *widths, 1))

    def batch(key: PRNGKeyArray, split: Split) -> Batch:
        return jax.random.uniform(jax.random.fold_in(key, SPLITS.index(split)), (batch_size,))

    def whole(split: Split) -> Batch:
        shift = (SPLITS.index(split) + 0.5) / len(SPLITS)
        return (jnp.arange(WHOLE) + shift) / WHOLE

    def at_points(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
        del key
        return loss(params, batch)

    return Task(init, batch, whole, at_points, lower_bound=0.0)


@dataclass(frozen=True)
class PoissonNetwork:
    """u'' = f on (0, 1) with u(0) = u(1) = 0, where u is x (1 - x) times a network's output.

    The loss is the mean of (u'' - f)^2 at points drawn afresh for every minibatch; f has mean
    square 1, so u = 0 costs 1, and `solution` costs 0. modes: sine waves in f. widths, activation:
    of the network. seed: of the waves' amplitudes; None draws others for every task.
    """

    loss: ClassVar[str] = "residual"
    modes: int = 3
    widths: tuple[int, ...] = (16, 16)
    activation: str = "tanh"
    batch_size: int = 32
    seed: int | None = None
    name: str = "poisson_network"

    def __post_init__(self):
        check_name("activation", self.activation, ACTIVATIONS)
        check_at_least(
            1, modes=self.modes, widths=min(self.widths, default=0), batch_size=self.batch_size
        )

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        amplitudes = jax.random.normal(task_key(key, self.seed), (self.modes,))
        return {"amplitudes": amplitudes * jnp.sqrt(2 / jnp.sum(amplitudes**2))}

    def value(self, params: Params, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """u at points in 0 .. 1; 0 at both ends whatever the weights."""
        output = mlp_apply(params, 2 * x[:, None] - 1, self.activation)[:, 0]
        return x * (1 - x) * output

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data

        def loss(params: Params, batch: Batch) -> Float[Array, ""]:
            _, _, curvature = derivatives(lambda x: self.value(params, x), batch)
            return jnp.mean((curvature - source(cfg["amplitudes"], batch)) ** 2)

        return interval_task(self.widths, self.batch_size, loss)
