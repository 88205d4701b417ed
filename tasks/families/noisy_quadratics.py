"""Quadratics whose loss is noisy: a moving target, or a matrix that shakes at every step."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Split, Task
from tasks.families.layers import initial
from tasks.families.synthetic import gradient_noise
from tasks.names import check_at_least, check_name, check_range
from tasks.sampling import log_uniform

_Pair = tuple[Float[Array, ""], Float[Array, ""]]
_Number = Callable[[PRNGKeyArray], Float[Array, ""]]


def _normal(stdev: float) -> _Number:
    return lambda key: stdev * jax.random.normal(key)


def _uniform(low: float, high: float) -> _Number:
    return lambda key: jax.random.uniform(key, minval=low, maxval=high)


# The two numbers of a kind. "normal": mean and standard deviation; "uniform": least and width;
# "linspace": least eigenvalue and width; "logspace": least and greatest eigenvalue.
_MATRICES: dict[str, tuple[_Number, _Number]] = {
    "normal": (_normal(1.0), _uniform(0.0, 2.0)),
    "uniform": (_uniform(-3.0, 1.0), _uniform(0.0, 5.0)),
    "linspace": (_uniform(0.01, 50.0), _uniform(0.0, 100.0)),
    "logspace": (_uniform(1e-5, 1e-5), _uniform(1.0, 1000.0)),
}
_SHAKING: dict[str, tuple[_Number, _Number]] = {
    "normal": (_normal(0.05), _uniform(0.0, 0.05)),
    "uniform": (_uniform(-0.15, 0.05), _uniform(0.0, 0.25)),
    "linspace": (_uniform(0.01, 2.0), _uniform(0.0, 10.0)),
    "logspace": (_uniform(1e-5, 1e-5), _uniform(1.0, 10.0)),
}
_STARTS: dict[str, tuple[_Number, _Number]] = {
    "normal": (_normal(1.0), _uniform(0.0, 2.0)),
    "uniform": (_uniform(-5.0, 2.5), _uniform(0.0, 5.0)),
}


@dataclass(frozen=True)
class NoisyQuadraticModel:
    """1/2 mean h (x - c)^2 with h from 1 down to 1 / conditioning in equal ratios (2106.00958).

    The targets c are N(0, stdev^2), drawn for every minibatch; the loss of a whole split is its
    expectation, 1/2 mean h x^2 + 1/2 stdev^2 mean h. Starts are standard normal. stdev,
    conditioning: bounds that each is drawn between, log-uniform, for every task. noise: standard
    deviation of what is added to every gradient entry.
    """

    dim: int = 64
    stdev: tuple[float, float] = (0.1, 3.0)
    conditioning: tuple[float, float] = (100.0, 30000.0)
    noise: float = 0.0
    name: str = "noisy_quadratic_model"

    def __post_init__(self):
        check_at_least(1, dim=self.dim)
        check_at_least(0, noise=self.noise)
        check_range("stdev", self.stdev)
        check_range("conditioning", self.conditioning)
        check_at_least(1, conditioning=self.conditioning[0])

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        stdev_key, conditioning_key = jax.random.split(key)
        return {
            "stdev": log_uniform(stdev_key, self.stdev),
            "conditioning": log_uniform(conditioning_key, self.conditioning),
        }

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data
        curvature = cfg["conditioning"] ** -jnp.linspace(0.0, 1.0, self.dim)

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            del split
            target = cfg["stdev"] * jax.random.normal(key, (self.dim,))
            return {"target": target, "variance": jnp.zeros(())}

        def whole(split: Split) -> Batch:
            del split
            return {"target": jnp.zeros(self.dim), "variance": cfg["stdev"] ** 2}

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            del key
            squares = (params - batch["target"]) ** 2 + batch["variance"]
            return 0.5 * jnp.mean(curvature * squares)

        return Task(
            lambda key: jax.random.normal(key, (self.dim,)),
            batch,
            whole,
            loss,
            0.0,
            gradient_noise(self.noise),
        )


@dataclass(frozen=True)
class RandomQuadratic:
    """scale * out(|A x|^2) for a random matrix A, the quadratic of TaskSet (2002.11887).

    matrix: what A is: "normal" or "uniform" entries, or a symmetric matrix of uniformly random
    eigenvectors with "linspace" or "logspace" eigenvalues. shaking: None, or the kind of the random
    matrix that is added to A at every step. start: "normal" or "uniform". output: "identity" or
    "log", which is log(|A x|^2 + 1e-8). loss_scale: bounds of the log-uniform scale. All other
    numbers are drawn for every task, as TaskSet has them. A step with "linspace" or "logspace"
    shaking costs O(dim^3), any other O(dim^2).
    """

    dim: int = 10
    matrix: str = "normal"
    shaking: str | None = None
    start: str = "normal"
    output: str = "identity"
    loss_scale: tuple[float, float] = (1e-5, 1e3)
    name: str = "random_quadratic"

    def __post_init__(self):
        check_at_least(2, dim=self.dim)
        check_name("matrix", self.matrix, _MATRICES)
        if self.shaking is not None:
            check_name("shaking", self.shaking, _SHAKING)
        check_name("start", self.start, _STARTS)
        check_name("output", self.output, ("identity", "log"))
        check_range("loss_scale", self.loss_scale)

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        numbers_key, matrix_key, shaking_key, start_key, scale_key = jax.random.split(key, 5)
        cfg = {
            "matrix": _matrix(
                matrix_key, self.matrix, self.dim, _draw(numbers_key, _MATRICES[self.matrix])
            ),
            "start": _draw(start_key, _STARTS[self.start]),
            "scale": log_uniform(scale_key, self.loss_scale),
        }
        if self.shaking is not None:
            cfg["shaking"] = _draw(shaking_key, _SHAKING[self.shaking])
        return cfg

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data

        def init(key: PRNGKeyArray) -> Params:
            first, second = cfg["start"]
            if self.start == "normal":
                return first + second * jax.random.normal(key, (self.dim,))
            return first + second * jax.random.uniform(key, (self.dim,))

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            del key, split
            return ()

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            del batch
            matrix = cfg["matrix"]
            if self.shaking is not None:
                matrix = matrix + _matrix(key, self.shaking, self.dim, cfg["shaking"])
            square = jnp.sum((matrix @ params) ** 2)
            return cfg["scale"] * (jnp.log(square + 1e-8) if self.output == "log" else square)

        # A hair below, since float32 may undercut a logarithm.
        bound = 1.000001 * math.log(1e-8) * cfg["scale"] if self.output == "log" else 0.0
        return Task(init, batch, lambda split: (), loss, bound)


def _matrix(key: PRNGKeyArray, kind: str, dim: int, numbers: _Pair) -> Float[Array, "dim dim"]:
    """A random matrix of a kind that the two numbers describe, as in _MATRICES."""
    first, second = numbers
    if kind == "normal":
        return first + second * jax.random.normal(key, (dim, dim))
    if kind == "uniform":
        return first + second * jax.random.uniform(key, (dim, dim))
    steps = jnp.linspace(0.0, 1.0, dim)
    values = first + second * steps if kind == "linspace" else first * (second / first) ** steps
    vectors = initial(key, (dim, dim), initializer="orthogonal")
    return (vectors * values) @ vectors.T


def _draw(key: PRNGKeyArray, pair: tuple[_Number, _Number]) -> _Pair:
    first_key, second_key = jax.random.split(key)
    return pair[0](first_key), pair[1](second_key)
