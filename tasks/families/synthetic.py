"""Functions with a known minimum: quadratics, the two-dimensional classics, and their like."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Split, Task
from tasks.names import check_at_least, check_name
from tasks.sampling import task_key


def gradient_noise(stdev: float) -> optax.GradientTransformation:
    """Adds N(0, stdev^2) to every gradient entry at every step; its update reads `key=`."""
    if stdev == 0:
        return optax.identity()

    def init(params: Params) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(updates, state, params=None, *, key, **extra):
        del params, extra
        leaves, structure = jax.tree.flatten(updates)
        keys = jax.random.split(key, len(leaves))
        noisy = [
            leaf + stdev * jax.random.normal(leaf_key, leaf.shape, leaf.dtype)
            for leaf, leaf_key in zip(leaves, keys, strict=True)
        ]
        return jax.tree.unflatten(structure, noisy), state

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


def objective(
    init: Callable[[PRNGKeyArray], Params],
    value: Callable[[Params], Float[Array, ""]],
    lower_bound: float | None,
    noise: float = 0.0,
) -> Task:
    """A task without data: every batch is empty and every split the same."""

    def batch(key: PRNGKeyArray, split: Split) -> Batch:
        del key, split
        return ()

    def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
        del key, batch
        return value(params)

    return Task(init, batch, lambda split: (), loss, lower_bound, gradient_noise(noise))


@dataclass(frozen=True)
class Quadratic:
    """1/2 |W x - y|^2 with standard normal square W and y, from a standard normal x (1703.04813).

    noise: standard deviation of what is added to every gradient entry. seed: of W and y; None
    draws others for every task.
    """

    dim: int = 20
    noise: float = 0.0
    seed: int | None = None
    name: str = "quadratic"

    def __post_init__(self):
        check_at_least(1, dim=self.dim)
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
            return 0.5 * jnp.sum((cfg["matrix"] @ x - cfg["target"]) ** 2)

        return objective(
            lambda key: jax.random.normal(key, (self.dim,)), value, 0.0, noise=self.noise
        )


class Plane(NamedTuple):
    """A function of (x, y), the box its starts are drawn from and a floor just below its minimum.

    Without a box the start is standard normal; without a floor the function falls forever.
    """

    value: Callable[[Array, Array], Float[Array, ""]]
    box: tuple[tuple[float, float], tuple[float, float]] | None
    floor: float | None


def _rosenbrock(x, y):
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def _log_sum_exp(x, y):
    exponents = jnp.stack([x + 3 * y - 0.1, x - 3 * y - 0.1, -x - 0.1, jnp.zeros_like(x)])
    return jax.nn.logsumexp(exponents)


def _ackley(x, y):
    # 1e-12 keeps the slope finite at the origin, where the value is 4e-6 instead of 0.
    bowl = -20 * jnp.exp(-0.2 * jnp.sqrt(0.5 * (x**2 + y**2) + 1e-12))
    waves = jnp.exp(0.5 * (jnp.cos(2 * jnp.pi * x) + jnp.cos(2 * jnp.pi * y)))
    return bowl - waves + math.e + 20


def _beale(x, y):
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def _booth(x, y):
    return (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2


def _wells(x):
    """One coordinate of Styblinski and Tang's function; between -39.16617 and infinity."""
    return 0.5 * (x**4 - 16 * x**2 + 5 * x)


def _styblinski_tang(x, y):
    return _wells(x) + _wells(y) + 80


def _matyas(x, y):
    # 0.26 (x^2 + y^2) - 0.48 x y, so written that rounding never takes it below zero.
    return 0.01 * (x + y) ** 2 + 0.25 * (x - y) ** 2


def _branin(x, y):
    valley = y - 5.1 * x**2 / (4 * jnp.pi**2) + 5 * x / jnp.pi - 6
    return valley**2 + 10 * (1 - 1 / (8 * jnp.pi)) * jnp.cos(x) + 10


def _michalewicz(x, y):
    first = jnp.sin(x) * jnp.sin(x**2 / jnp.pi) ** 10
    second = jnp.sin(y) * jnp.sin(2 * y**2 / jnp.pi) ** 10
    return 2 - first - second


def _saddle(x, y):
    return x**2 - y**2


def _square(bound: float) -> tuple[tuple[float, float], tuple[float, float]]:
    return ((-bound, bound), (-bound, bound))


FUNCTIONS: dict[str, Plane] = {
    "rosenbrock": Plane(_rosenbrock, ((-5, 10), (-5, 10)), 0.0),
    "log_sum_exp": Plane(_log_sum_exp, None, 1.269550),
    "ackley": Plane(_ackley, _square(32.768), -1e-5),
    "beale": Plane(_beale, _square(4.5), 0.0),
    "booth": Plane(_booth, _square(10), 0.0),
    "styblinski_tang": Plane(_styblinski_tang, _square(5), 1.66760),
    "matyas": Plane(_matyas, _square(10), 0.0),
    "branin": Plane(_branin, ((-5, 10), (0, 15)), 0.397880),
    "michalewicz": Plane(_michalewicz, ((0, math.pi), (0, math.pi)), 0.193370),
    "saddle": Plane(_saddle, None, None),
}


@dataclass(frozen=True)
class Function2D:
    """One of the two-dimensional functions of the optimization literature (1703.04813).

    function: a key of FUNCTIONS. noise: as in Quadratic. name: the function's, with "_noisy" where
    there is noise, unless given. Tasks differ in where they start. All but the saddle have a floor.
    """

    function: str = "rosenbrock"
    noise: float = 0.0
    name: str = ""

    def __post_init__(self):
        check_name("function", self.function, FUNCTIONS)
        check_at_least(0, noise=self.noise)
        if not self.name:
            object.__setattr__(self, "name", self.function + ("_noisy" if self.noise else ""))

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        del key
        return ()

    def task(self, cfg: Cfg, data: Data) -> Task:
        del cfg, data
        plane = FUNCTIONS[self.function]

        def init(key: PRNGKeyArray) -> Params:
            if plane.box is None:
                return jax.random.normal(key, (2,))
            low, high = jnp.array(plane.box, jnp.float32).T
            return jax.random.uniform(key, (2,), minval=low, maxval=high)

        return objective(
            init, lambda point: plane.value(point[0], point[1]), plane.floor, noise=self.noise
        )


@dataclass(frozen=True)
class MatrixFactorisation:
    """mean (U V - M)^2 for a matrix M of low rank: U is (size, rank), V (rank, size).

    M is a product of standard normal factors over sqrt(rank), so its entries have variance 1 and
    the least loss is 0. seed: of M; None draws another for every task.
    """

    size: int = 30
    rank: int = 3
    seed: int | None = None
    name: str = "matrix_factorisation"

    def __post_init__(self):
        check_at_least(1, rank=self.rank)
        check_at_least(self.rank, size=self.size)

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        left, right = jax.random.split(task_key(key, self.seed))
        return {
            "left": jax.random.normal(left, (self.size, self.rank)),
            "right": jax.random.normal(right, (self.rank, self.size)) / math.sqrt(self.rank),
        }

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data
        matrix = cfg["left"] @ cfg["right"]

        def init(key: PRNGKeyArray) -> Params:
            left, right = jax.random.split(key)
            scale = 1 / math.sqrt(self.rank)
            return {
                "left": scale * jax.random.normal(left, (self.size, self.rank)),
                "right": scale * jax.random.normal(right, (self.rank, self.size)),
            }

        def value(params: Params) -> Float[Array, ""]:
            return jnp.mean((params["left"] @ params["right"] - matrix) ** 2)

        return objective(init, value, 0.0)
