"""Convex functions with their minimum at a known value: bowls, norms, sums of squares."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Cfg, Data, Params, Task
from tasks.families.synthetic import objective
from tasks.names import check_at_least
from tasks.sampling import task_key


@dataclass(frozen=True)
class Bowl:
    """1/2 |A x|^2 for A = diag(sqrt(condition), 1) R(angle), from a standard normal x (1703.04813).

    condition: > 0, the larger eigenvalue over the smaller one or its inverse. angle: in radians,
    of the rotation R. noise: standard deviation of what is added to every gradient entry. Tasks
    differ in where they start.
    """

    condition: float = 5.0
    angle: float = 0.0
    noise: float = 0.0
    name: str = "bowl"

    def __post_init__(self):
        if not self.condition > 0:
            raise ValueError(f"condition: {self.condition} is not allowed; it must be above 0")
        check_at_least(0, noise=self.noise)

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        del key
        return ()

    def task(self, cfg: Cfg, data: Data) -> Task:
        del cfg, data
        cosine, sine = math.cos(self.angle), math.sin(self.angle)

        def value(x: Params) -> Float[Array, ""]:
            first, second = cosine * x[0] - sine * x[1], sine * x[0] + cosine * x[1]
            return 0.5 * (self.condition * first**2 + second**2)

        return objective(lambda key: jax.random.normal(key, (2,)), value, 0.0, noise=self.noise)


@dataclass(frozen=True)
class Norm:
    """(sum (|W x - y| + 1e-6)^power)^(1/power), W and y and the start standard normal (1703.04813).

    power: at least 1; below it the function is not convex and its gradients overflow. noise: as in
    Bowl. seed: of W and y; None draws others for every task.
    """

    dim: int = 18
    power: float = 2.0
    noise: float = 0.0
    seed: int | None = None
    name: str = "norm"

    def __post_init__(self):
        check_at_least(1, dim=self.dim, power=self.power)
        check_at_least(0, noise=self.noise)

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        matrix_key, target_key = jax.random.split(task_key(key, self.seed))
        return {
            "matrix": jax.random.normal(matrix_key, (self.dim, self.dim)),
            "target": jax.random.normal(target_key, (self.dim,)),
        }

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data

        def value(x: Params) -> Float[Array, ""]:
            residual = jnp.abs(cfg["matrix"] @ x - cfg["target"]) + 1e-6
            # Divided by the largest, no power of a residual overflows or vanishes.
            most = jax.lax.stop_gradient(jnp.max(residual))
            return most * jnp.sum((residual / most) ** self.power) ** (1 / self.power)

        return objective(
            lambda key: jax.random.normal(key, (self.dim,)), value, 0.0, noise=self.noise
        )


@dataclass(frozen=True)
class IsotropicQuadratic:
    """The sum of the squares of all entries of several vectors, from standard normal ones.

    sizes: of the vectors. noise: as in Bowl. Tasks differ in where they start.
    """

    sizes: tuple[int, ...] = (10,)
    noise: float = 0.0
    name: str = "isotropic_quadratic"

    def __post_init__(self):
        check_at_least(1, sizes=min(self.sizes, default=0))
        check_at_least(0, noise=self.noise)

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        del key
        return ()

    def task(self, cfg: Cfg, data: Data) -> Task:
        del cfg, data

        def init(key: PRNGKeyArray) -> Params:
            keys = jax.random.split(key, len(self.sizes))
            return [jax.random.normal(k, (n,)) for k, n in zip(keys, self.sizes, strict=True)]

        def value(params: Params) -> Float[Array, ""]:
            return sum((jnp.sum(x**2) for x in params), start=jnp.float32(0))

        return objective(init, value, 0.0, noise=self.noise)
