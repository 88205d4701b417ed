"""Problems that most optimizers are slow on: chains, wells, a valley to infinity, sums over data.

All are of 1703.04813. Losses over examples are sums, not means: that of a whole split is its number
of examples over the batch size times that of a minibatch.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Task
from tasks.families.generated import examples_task, fair_bits, symmetric_normal
from tasks.families.synthetic import objective
from tasks.names import check_at_least
from tasks.sampling import task_key


@dataclass(frozen=True)
class DependencyChain:
    """sum over i = 1 .. dim of x_0^2 + x_i^2 / (x_(i-1)^2 + 1e-6), from dim + 1 normal numbers.

    The first must shrink last: each divides the square of its follower. noise: standard deviation
    of what is added to every gradient entry. Tasks differ in where they start.
    """

    dim: int = 20
    noise: float = 0.0
    name: str = "dependency_chain"

    def __post_init__(self):
        check_at_least(1, dim=self.dim)
        check_at_least(0, noise=self.noise)

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        del key
        return ()

    def task(self, cfg: Cfg, data: Data) -> Task:
        del cfg, data

        def value(x: Params) -> Float[Array, ""]:
            squares = x**2
            return self.dim * squares[0] + jnp.sum(squares[1:] / (squares[:-1] + 1e-6))

        return objective(
            lambda key: jax.random.normal(key, (self.dim + 1,)), value, 0.0, noise=self.noise
        )


@dataclass(frozen=True)
class MinMaxWell:
    """max x^2 + 1 / min x^2 - 2 + 1e-12 over the entries, from standard normal ones.

    Only two entries have a gradient at a time; the minimum, 1e-12, is where all are 1 or -1. noise:
    as in DependencyChain. Tasks differ in where they start.
    """

    dim: int = 20
    noise: float = 0.0
    name: str = "min_max_well"

    def __post_init__(self):
        check_at_least(1, dim=self.dim)
        check_at_least(0, noise=self.noise)

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        del key
        return ()

    def task(self, cfg: Cfg, data: Data) -> Task:
        del cfg, data

        def value(x: Params) -> Float[Array, ""]:
            most, least = jnp.max(x**2), jnp.min(x**2)
            # Two terms that rounding never takes below zero; their sum is most + 1 / least - 2.
            return (most - 1) ** 2 / most + (most - least) / most / least + 1e-12

        return objective(
            lambda key: jax.random.normal(key, (self.dim,)), value, 0.0, noise=self.noise
        )


@dataclass(frozen=True)
class OutwardSnake:
    """An oscillating valley that leads to infinity, where the loss of 0 lies.

    The sum over examples b of B_b0 / |x| and, over j >= 1, of (B_bj (x_j - pi cos x_(j-1)))^2; the
    B are fair bits. |x| is rooted 1e-12 above its square. examples: how many the train split
    holds. seed: of them; None draws others for every task. noise: as in DependencyChain.
    """

    dim: int = 20
    examples: int = 100
    batch_size: int = 32
    noise: float = 0.0
    seed: int | None = None
    name: str = "outward_snake"

    def __post_init__(self):
        _check(self)

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return fair_bits(task_key(key, self.seed), self.dim, self.examples)

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data

        def value(x: Params, batch: Batch) -> Float[Array, ""]:
            outward = jnp.sum(batch[:, 0]) / jnp.sqrt(jnp.sum(x**2) + 1e-12)
            bends = batch[:, 1:] * (x[1:] - jnp.pi * jnp.cos(x[:-1]))
            return outward + jnp.sum(bends**2)

        return examples_task(
            lambda key: jax.random.normal(key, (self.dim,)), value, cfg, self.batch_size, self.noise
        )


@dataclass(frozen=True)
class ProjectionQuadratic:
    """The sum over examples X of sum (x X)^2, entry by entry: noisy curvature, no noise at 0.

    The X are standard normal rows, each with its negative. Fields as in OutwardSnake; examples is
    even.
    """

    dim: int = 20
    examples: int = 100
    batch_size: int = 32
    noise: float = 0.0
    seed: int | None = None
    name: str = "projection_quadratic"

    def __post_init__(self):
        _check(self)
        _check_even(self.examples)

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return symmetric_normal(task_key(key, self.seed), self.dim, self.examples)

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data

        def value(x: Params, batch: Batch) -> Float[Array, ""]:
            return jnp.sum((x * batch) ** 2)

        return examples_task(
            lambda key: jax.random.normal(key, (self.dim,)), value, cfg, self.batch_size, self.noise
        )


@dataclass(frozen=True)
class SumOfQuadratics:
    """The sum over examples X of |x - X|^2 - |X|^2, no lower than 0, plus 1e-12.

    The X are standard normal rows, each with its negative, so over all of them the minimum is at 0.
    A minibatch is lower elsewhere; there its loss is 1e-12 and its gradient 0. Fields as in
    ProjectionQuadratic.
    """

    dim: int = 20
    examples: int = 100
    batch_size: int = 32
    noise: float = 0.0
    seed: int | None = None
    name: str = "sum_of_quadratics"

    def __post_init__(self):
        _check(self)
        _check_even(self.examples)

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return symmetric_normal(task_key(key, self.seed), self.dim, self.examples)

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data

        def value(x: Params, batch: Batch) -> Float[Array, ""]:
            # The squares of the examples cancel; left out, they take no digits with them.
            return jnp.maximum(jnp.sum(x * (len(batch) * x - 2 * jnp.sum(batch, 0))), 0) + 1e-12

        return examples_task(
            lambda key: jax.random.normal(key, (self.dim,)), value, cfg, self.batch_size, self.noise
        )


def _check(family: OutwardSnake | ProjectionQuadratic | SumOfQuadratics) -> None:
    check_at_least(1, dim=family.dim, examples=family.examples, batch_size=family.batch_size)
    check_at_least(0, noise=family.noise)


def _check_even(examples: int) -> None:
    if examples % 2:
        raise ValueError(
            f"examples: {examples} is not allowed; it must be even, as each comes with its negative"
        )
