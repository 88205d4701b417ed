"""SOAP: Adam in the basis of the eigenvectors of Shampoo's matrices."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from learned_opt.base import Params
from learned_opt.hand import kronecker
from learned_opt.hand.assemble import Direction
from learned_opt.hand.hyperparameters import Scalar
from learned_opt.hand.parts.base import check_count
from learned_opt.hand.spec import HandDesigned


class SoapState(NamedTuple):
    count: Int[Array, ""]  # updates made so far, with the first, which moves nothing
    mu: Params  # average of rotated gradients
    nu: Params  # average of their squares
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
    more than max_precond_dim entries, are not rotated. Rotated entries that are rounding count as
    zero: where no gradient points there is no step.
    """
    check_count("update_interval", update_interval)
    check_count("max_precond_dim", max_precond_dim)
    rotated = partial(kronecker.rotated, largest=max_precond_dim)

    def update(updates, state, params=None):
        del params
        leaves, structure = jax.tree.flatten(updates)
        first, t = state.count == 0, jnp.maximum(state.count, 1)
        pairs = zip(leaves, state.bases, strict=True)
        seen = structure.unflatten(_without_rounding(rotated(g, q)) if q else g for g, q in pairs)
        mu = optax.tree.update_moment(seen, state.mu, b1, 1)
        nu = optax.tree.update_moment(seen, state.nu, b2, 2)
        mu, nu = optax.tree.where(first, (state.mu, state.nu), (mu, nu))
        factor = jnp.where(first, 0, jnp.sqrt(1 - b2**t) / (1 - b1**t))
        means, squares = structure.flatten_up_to(mu), structure.flatten_up_to(nu)
        direction = [
            jnp.asarray(factor * rotated(m / (jnp.sqrt(v) + eps), q, back=True), m.dtype)
            for m, v, q in zip(means, squares, state.bases, strict=True)
        ]
        outer = tuple(kronecker.outer(g, max_precond_dim) for g in leaves)
        factors = optax.tree.update_moment(outer, state.factors, b3, 1)
        kept = (tuple(means), tuple(squares), state.bases)
        due = jnp.where(first, 1, jnp.where(t % update_interval == 0, 2, 0))
        turned = jax.lax.switch(
            due,
            [lambda factors, kept: kept, _first_bases, partial(_turned, largest=max_precond_dim)],
            jax.lax.stop_gradient(factors),
            kept,
        )
        mu, nu = (structure.unflatten(part) for part in turned[:2])
        found = SoapState(state.count + 1, mu, nu, factors, turned[2])
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


def _without_rounding(turned: Array) -> Array:
    """Zero where a rotation leaves rounding only, which Adam would make steps of full length of."""
    noise = 64 * jnp.finfo(turned.dtype).eps * jnp.sqrt(jnp.sum(jnp.square(turned)))
    return jnp.where(jnp.abs(turned) > noise, turned, 0)


def _first_bases(factors: Any, kept: Any) -> Any:
    """The eigenvectors, the largest eigenvalue's first."""
    return *kept[:2], jax.tree.map(lambda s: jnp.linalg.eigh(s)[1][:, ::-1], factors)


def _turned(factors: Any, kept: Any, largest: int) -> Any:
    """A step of power iteration from the bases so far, sorted; the moments turn with them."""

    def leaf(m, v, matrices, bases):
        m = kronecker.rotated(m, bases, largest, back=True)
        new = []
        for axis, s, q in zip(kronecker.axes(m, largest), matrices, bases, strict=True):
            order = jnp.argsort(-jnp.sum(q * (s @ q), axis=0))
            v = jnp.take(v, order, axis=axis)
            new.append(jnp.linalg.qr(s @ q[:, order])[0])
        return kronecker.rotated(m, new, largest), v, tuple(new)

    means, squares, bases = kept
    found = [leaf(*each) for each in zip(means, squares, factors, bases, strict=True)]
    return tuple(zip(*found, strict=True))


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
