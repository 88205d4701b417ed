"""SMMF: both moments of a tensor, reshaped to a square, as products of row and column sums."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, UInt8

from learned_opt.base import Params
from learned_opt.hand.assemble import Direction
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.spec import HandDesigned


class Factors(NamedTuple):
    """A matrix of no negative entries, by its sums; the columns' are shares of the total."""

    rows: Float[Array, " rows"]
    columns: Float[Array, " columns"]


class Moments(NamedTuple):
    """Of one leaf, as a matrix with rows * columns entries."""

    size: Factors  # of |m|
    signs: UInt8[Array, " bytes"]  # whether m is above 0, one bit an entry
    square: Factors  # of v


class SMMFState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    moments: Params  # Moments for each leaf


def scale_by_smmf(
    b1: Scalar = 0.9, growth_rate: Scalar = 0.999, decay_rate: Scalar = -0.5, eps: Scalar = 1e-8
) -> optax.GradientTransformation:
    """u = m / (sqrt(v) + eps); m decays by b1 growth_rate^(t-1), v by 1 - t^decay_rate.

    decay_rate: -0.5 for convolutions, -0.8 for transformers. m and v are kept as products of two
    vectors, m with its signs; exact for matrices of rank one. A prime number of entries saves
    nothing.
    """

    def init(params: Params) -> SMMFState:
        def one(p):
            rows, columns = square_shape(p.size)
            size, square = (
                Factors(jnp.zeros(rows, p.dtype), jnp.zeros(columns, p.dtype)) for _ in range(2)
            )
            return Moments(size, jnp.zeros(-(-p.size // 8), jnp.uint8), square)

        return SMMFState(jnp.zeros((), jnp.int32), jax.tree.map(one, params))

    def update(updates, state, params=None):
        del params
        count = state.count + 1
        time = jnp.asarray(count, jnp.result_type(float))
        first, second = b1 * growth_rate ** (time - 1.0), 1.0 - time**decay_rate

        def one(g, kept):
            matrix = g.reshape(square_shape(g.size))
            signs = jnp.unpackbits(kept.signs, count=g.size).reshape(matrix.shape)
            size = _outer(kept.size)
            m = first * jnp.where(signs, size, -size) + (1.0 - first) * matrix
            v = second * _outer(kept.square) + (1.0 - second) * jnp.square(matrix)
            m, v = jnp.asarray(m, g.dtype), jnp.asarray(v, g.dtype)
            u = m / (jnp.sqrt(v) + eps)
            return u.reshape(g.shape), Moments(
                _factors(jnp.abs(m)), jnp.packbits(m > 0.0, axis=None), _factors(v)
            )

        leaves, structure = jax.tree.flatten(updates)
        moments = structure.flatten_up_to(state.moments)
        found = [one(g, kept) for g, kept in zip(leaves, moments, strict=True)]
        steps = structure.unflatten([u for u, _ in found])
        return steps, SMMFState(count, structure.unflatten([kept for _, kept in found]))

    return optax.GradientTransformation(init, update)


def square_shape(size: int) -> tuple[int, int]:
    """The rows and columns, not more than rows, of the most square matrix of `size` entries."""
    columns = next(c for c in range(math.isqrt(size), 0, -1) if size % c == 0)
    return size // columns, columns


def _factors(matrix: Array) -> Factors:
    total = matrix.sum()
    share = jnp.where(total > 0.0, total, 1.0)
    return Factors(matrix.sum(1), matrix.sum(0) / share)


def _outer(factors: Factors) -> Array:
    return factors.rows[:, None] * factors.columns[None, :]


ENTRIES = (
    HandDesigned(
        "smmf",
        Direction(scale_by_smmf),
        1e-3,
        source="arXiv:2412.08894",
        formula="u = m / (sqrt(v) + eps), |m| and v kept as rows columns^T of the squared tensor",
        ranges=(
            ("growth_rate", Hyperparameter("one_minus", 0.9, 0.9999, most=1.0)),
            ("decay_rate", Hyperparameter("linear", -1.0, -0.4, least=-1.0, most=0.0)),
        ),
    ),
)
