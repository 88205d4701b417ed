"""SOAP: Adam in the basis of the eigenvectors of Shampoo's matrices."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int

from learned_opt.anchors.rotation import above_rounding, refreshed
from learned_opt.base import Params
from learned_opt.hand import kronecker
from learned_opt.hand.assemble import Direction
from learned_opt.hand.hyperparameters import Scalar
from learned_opt.hand.parts.base import check_count
from learned_opt.hand.spec import HandDesigned


class SoapState(NamedTuple):
    count: Int[Array, ""]  # updates made so far, with the first, which moves nothing
    mu: Params  # average of gradients
    nu: Params  # average of their squares, rotated
    factors: Any  # for each leaf in order and each of its axes: average of outer products
    bases: Any  # as factors: eigenvectors in columns


def scale_by_soap(
    b1: Scalar = 0.95,
    b2: Scalar = 0.95,
    b3: Scalar = 0.95,
    eps: Scalar = 1e-8,
    update_interval: int = 10,
    max_precond_dim: int = 10_000,
) -> optax.GradientTransformation:
    """u = Q (m' / (sqrt(v') + eps)) Q^T sqrt(1 - b2^t) / (1 - b1^t), m' and v' of Q^T g Q.

    b3: of the averages of g g^T and g^T g. Q: their eigenvectors at the first update, which moves
    nothing; later a step of power iteration every update_interval updates. Vectors, and axes of
    more than max_precond_dim entries, are not rotated.

    One thing differs from the publication: the step is zero where v' is so small, beside the sum of
    the tensor's v', that it holds rounding alone. There m' / sqrt(v') would be noise of full
    length, or without bound, once a new basis points there.
    """
    check_count("update_interval", update_interval)
    check_count("max_precond_dim", max_precond_dim)
    rotated = partial(kronecker.rotated, largest=max_precond_dim)

    def update(updates, state, params=None):
        del params
        leaves, structure = jax.tree.flatten(updates)
        first, t = state.count == 0, jnp.maximum(state.count, 1)
        into = lambda tree: structure.unflatten(
            map(rotated, structure.flatten_up_to(tree), state.bases)
        )
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment(into(updates), state.nu, b2, 2)
        mu, nu = optax.tree.where(first, (state.mu, state.nu), (mu, nu))
        factor = jnp.where(first, 0, jnp.sqrt(1 - b2**t) / (1 - b1**t))
        squares = structure.flatten_up_to(nu)
        direction = [
            jnp.asarray(factor * rotated(_divided(m, v, eps, bool(q)), q, back=True), m.dtype)
            for m, v, q in zip(structure.flatten_up_to(into(mu)), squares, state.bases, strict=True)
        ]
        outer = tuple(kronecker.outer(g, max_precond_dim) for g in leaves)
        factors = optax.tree.update_moment(outer, state.factors, b3, 1)
        bases = _refreshed(state.bases, factors, first, t % update_interval == 0)
        found = SoapState(state.count + 1, mu, nu, factors, bases)
        return structure.unflatten(direction), found

    return optax.GradientTransformation(partial(_fresh, largest=max_precond_dim), update)


def _fresh(params: Params, largest: int) -> SoapState:
    def matrices(make):
        leaves = jax.tree.leaves(params)
        return tuple(kronecker.each(p, largest, partial(make, dtype=p.dtype)) for p in leaves)

    zeros = optax.tree.zeros_like
    square = lambda size, dtype: jnp.zeros((size, size), dtype)
    count = jnp.zeros((), jnp.int32)
    return SoapState(count, zeros(params), zeros(params), matrices(square), matrices(jnp.eye))


def _divided(m: Array, v: Array, eps: Scalar, is_rotated: bool) -> Array:
    """m / (sqrt(v) + eps), and 0 where v is what a rotation leaves of no gradient."""
    if not is_rotated:
        return m / (jnp.sqrt(v) + eps)
    return jnp.where(above_rounding(v), m / (jnp.sqrt(v) + eps), 0)


def _refreshed(bases: Any, factors: Any, first: Bool[Array, ""], due: Bool[Array, ""]) -> Any:
    """The bases, brought up to date where due; a column keeps its place, so nu need not follow."""
    as_blocks = lambda tree: jax.tree.map(lambda matrix: matrix[None], tree)
    found = refreshed(as_blocks(factors), as_blocks(bases), first, due)
    return jax.tree.map(lambda matrix: matrix[0], tuple(found))


ENTRIES = (
    HandDesigned(
        "soap",
        Direction(scale_by_soap, weight_decay=1e-2),
        3e-3,
        source="arXiv:2409.11321",
        formula="u = adam's u of Q^T g Q, turned back; Q eigenvectors of EMA(g g^T), EMA(g^T g)",
        needs=("params",),
    ),
)
