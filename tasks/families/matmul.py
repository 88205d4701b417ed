"""The search for a way to multiply matrices with few multiplications (1703.04813)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Cfg, Data, Params, Task
from tasks.families.synthetic import objective
from tasks.names import check_at_least

_DAMPING = 1e-6  # of the least squares, relative to the mean eigenvalue


@dataclass(frozen=True)
class MatMulAlgorithm:
    """A bilinear algorithm that multiplies size x size matrices with `products` multiplications.

    The loss is the sum of the squared errors over the products of all pairs of unit matrices.
    Parameters are the two sets of linear forms that are multiplied, (size^2, products) each, of
    unit columns at the start; the recombination of the products is the best one, by damped least
    squares. products: size^2 .. size^3. A loss of 0 is an algorithm; size 2 needs 7 products.
    noise: standard deviation of what is added to every gradient entry.
    """

    size: int = 2
    products: int = 7
    noise: float = 0.0
    name: str = "matmul_algorithm"

    def __post_init__(self):
        check_at_least(1, size=self.size)
        check_at_least(0, noise=self.noise)
        if not self.size**2 <= self.products <= self.size**3:
            raise ValueError(
                f"products: {self.products} is not allowed; it must be {self.size**2} .. "
                f"{self.size**3} for matrices of size {self.size}"
            )

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        del key
        return ()

    def task(self, cfg: Cfg, data: Data) -> Task:
        del cfg, data
        entries = self.size**2

        def init(key: PRNGKeyArray) -> Params:
            forms = jax.random.normal(key, (2, entries, self.products))
            left, right = forms / jnp.linalg.norm(forms, axis=1, keepdims=True)
            return {"left": left, "right": right}

        def value(params: Params) -> Float[Array, ""]:
            pairs = params["left"][:, None] * params["right"][None]
            pairs = pairs.reshape(entries**2, self.products)
            target = _unit_products(self.size).astype(pairs.dtype)
            gram = pairs.T @ pairs
            damping = _DAMPING * jnp.trace(gram) / self.products
            weights = jnp.linalg.solve(
                gram + damping * jnp.eye(self.products, dtype=gram.dtype), pairs.T @ target
            )
            return jnp.sum((pairs @ weights - target) ** 2)

        return objective(init, value, 0.0, noise=self.noise)


def _unit_products(size: int) -> Float[Array, "pairs entries"]:
    """Row (a, b), (c, d): the flattened product of the unit matrices E_ab and E_cd."""
    one = jnp.eye(size)
    return jnp.einsum("ae,bc,df->abcdef", one, one, one).reshape(size**4, size**2)
