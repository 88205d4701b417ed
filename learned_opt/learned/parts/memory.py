"""What per-parameter networks keep of gradients: averages of g and g^2, whole and factored."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_opt.learned.parts.features import FactoredMoment, accumulate


class Decays(NamedTuple):
    """Decays of the three kinds of averages, each k of its own."""

    momentum: Float[Array, " k"]
    square: Float[Array, " k2"]
    factored: Float[Array, " k3"]


class Memory(NamedTuple):
    """Averages for one tensor [k, *shape], none bias-corrected; a stack's have tensors in front."""

    momentum: Array
    square: Array
    factored: FactoredMoment

    @staticmethod
    def zeros(tensors: int, shape: tuple[int, ...], decays: tuple[int, int, int]) -> "Memory":
        """For a stack of `tensors` tensors; decays: how many there are of each kind."""
        momenta, squares, factored = decays
        memory = Memory(
            jnp.zeros((momenta, *shape)),
            jnp.zeros((squares, *shape)),
            FactoredMoment.zeros(factored, shape),
        )
        return jax.tree.map(lambda x: jnp.zeros((tensors, *x.shape)), memory)

    def step(self, decays: Decays, gradient: Float[Array, "*s"]) -> "Memory":
        """For one tensor: the averages with this gradient in them."""
        return Memory(
            accumulate(decays.momentum, self.momentum, gradient),
            accumulate(decays.square, self.square, jnp.square(gradient)),
            self.factored.step(decays.factored, gradient),
        )


class Second(NamedTuple):
    """The factored averages of one tensor and what they scale by; reduced axes have size 1.

    For a tensor of rank 0 or 1, column is row.
    """

    row: Float[Array, "k *r"]
    column: Float[Array, "k *c"]
    gradient_factor: Float[Array, "k *f"]
    momentum_factor: Float[Array, "k *f"]

    @staticmethod
    def of(factored: FactoredMoment, unfactored_eps: float) -> "Second":
        """unfactored_eps: under the root that scales the momentum of tensors of rank 0 and 1.

        At 0, as published rules have it, |momentum| stays below that root of its own average.
        """
        row, column = factored
        row_factor, column_factor = factored.factors()
        if column is None or column_factor is None:
            return Second(row, row, row_factor, _inverse_root(row + unfactored_eps))
        factor = row_factor * column_factor
        return Second(row, column, factor, factor)


def _inverse_root(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """1 / sqrt(x) for x > 0; below 1e-20 its derivative, too large for float32, counts as 0."""
    regular = x > 1e-20
    tiny = jax.lax.stop_gradient(jax.lax.rsqrt(x))
    return jnp.where(regular, jax.lax.rsqrt(jnp.where(regular, x, 1.0)), tiny)
