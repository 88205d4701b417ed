"""Functions of any number of variables, with a known minimum."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Cfg, Data, Params, Task
from tasks.families.synthetic import objective
from tasks.names import check_at_least, check_name


class Terrain(NamedTuple):
    """A function of a vector, the bounds its starts are uniform in and where it is least.

    floor: at or just below the minimum, for each variable.
    """

    value: Callable[[Array], Float[Array, ""]]
    bounds: tuple[float, float]
    minimiser: Callable[[int], np.ndarray]
    floor: float = 0.0


def _numbers(x: Array) -> Float[Array, " dim"]:
    """1, 2, ... for every variable."""
    return jnp.arange(1, x.shape[0] + 1).astype(x.dtype)


def _dixon_price(x):
    steps = _numbers(x)[1:] * (2 * x[1:] ** 2 - x[:-1]) ** 2
    return (x[0] - 1) ** 2 + jnp.sum(steps)


def _levy(x):
    w = 1 + (x - 1) / 4
    inner = (w[:-1] - 1) ** 2 * (1 + 10 * jnp.sin(jnp.pi * w[:-1] + 1) ** 2)
    last = (w[-1] - 1) ** 2 * (1 + jnp.sin(2 * jnp.pi * w[-1]) ** 2)
    return jnp.sin(jnp.pi * w[0]) ** 2 + jnp.sum(inner) + last


def _zakharov(x):
    tilt = jnp.sum(0.5 * _numbers(x) * x)
    return jnp.sum(x**2) + tilt**2 + tilt**4


def _rosenbrock_chain(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def _styblinski_tang(x):
    return jnp.sum(0.5 * (x**4 - 16 * x**2 + 5 * x) + 40)


def _dixon_price_minimiser(dim: int) -> np.ndarray:
    return 2.0 ** (2.0 ** (1 - np.arange(1, dim + 1)) - 1)


TERRAINS: dict[str, Terrain] = {
    "dixon_price": Terrain(_dixon_price, (-10, 10), _dixon_price_minimiser),
    "levy": Terrain(_levy, (-10, 10), np.ones),
    "rosenbrock_chain": Terrain(_rosenbrock_chain, (-5, 10), np.ones),
    "styblinski_tang": Terrain(
        _styblinski_tang, (-5, 5), lambda dim: np.full(dim, -2.9035340), floor=0.8338
    ),
    "zakharov": Terrain(_zakharov, (-5, 10), np.zeros),
}


@dataclass(frozen=True)
class FunctionND:
    """One of the test functions of the optimization literature in `dim` variables.

    function: dixon_price (a chain of curved steps), levy (waves on a bowl), rosenbrock_chain (one
    curved valley), styblinski_tang (two wells in every variable) or zakharov (a flat bowl between
    walls of fourth power). Starts are uniform in the function's box. name: <function>_<dim> unless
    given.
    """

    function: str = "levy"
    dim: int = 20
    name: str = ""

    def __post_init__(self):
        check_name("function", self.function, TERRAINS)
        check_at_least(2, dim=self.dim)
        if not self.name:
            object.__setattr__(self, "name", f"{self.function}_{self.dim}")

    @property
    def loss(self) -> str:
        return self.function

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        del key
        return ()

    def task(self, cfg: Cfg, data: Data) -> Task:
        del cfg, data
        terrain = TERRAINS[self.function]
        low, high = terrain.bounds

        def init(key: PRNGKeyArray) -> Params:
            return jax.random.uniform(key, (self.dim,), minval=low, maxval=high)

        return objective(init, terrain.value, terrain.floor * self.dim)
