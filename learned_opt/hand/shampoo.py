"""Shampoo: each axis of the gradient times a root of the products it has had with itself."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from learned_opt.base import Params
from learned_opt.branch import update_where
from learned_opt.hand import kronecker
from learned_opt.hand.assemble import Direction
from learned_opt.hand.hyperparameters import Scalar
from learned_opt.hand.parts.base import check_count
from learned_opt.hand.spec import HandDesigned
from learned_opt.naming import check_name

GRAFTS = {"none": None, "sgd": optax.identity, "adam": optax.scale_by_adam}


class KroneckerState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    factors: Any  # for each leaf in order and each of its axes: sum or average of outer products
    roots: Any  # as factors: their inverse roots


def _scale_by_roots(
    b2: Scalar | None, eps: Scalar, update_interval: int, max_precond_dim: int
) -> optax.GradientTransformation:
    """u = g times S_i^(-1 / 2k) along each of its k axes, S_i = eps I + sum of outer products."""

    def init(params: Params) -> KroneckerState:
        def matrices(scale):
            return tuple(
                kronecker.each(p, max_precond_dim, lambda n, p=p: scale * jnp.eye(n, dtype=p.dtype))
                for p in jax.tree.leaves(params)
            )

        return KroneckerState(jnp.zeros((), jnp.int32), matrices(eps), matrices(1.0))

    def update(updates, state, params=None):
        del params
        leaves, structure = jax.tree.flatten(updates)
        outer = tuple(kronecker.outer(g, max_precond_dim) for g in leaves)
        if b2 is None:
            factors = optax.tree.add(state.factors, outer)
        else:
            factors = optax.tree.update_moment(outer, state.factors, b2, 1)
        due = state.count % update_interval == 0
        roots = update_where(due, _roots, state.roots, factors, jnp.asarray(eps))
        found = [
            kronecker.rotated(g, r, max_precond_dim) for g, r in zip(leaves, roots, strict=True)
        ]
        return structure.unflatten(found), KroneckerState(state.count + 1, factors, roots)

    return optax.GradientTransformation(init, update)


def _roots(old: Any, factors: Any, eps: Float[Array, ""]) -> Any:
    """The inverse roots of all leaves' matrices, eigenvalues raised to eps."""
    del old

    def one(s: Float[Array, "n n"], power: float) -> Float[Array, "n n"]:
        values, vectors = jnp.linalg.eigh(s)
        return (vectors * jnp.maximum(values, eps) ** power) @ vectors.T

    return tuple(tuple(one(s, -0.5 / len(leaf)) for s in leaf) for leaf in factors)


def _grafted(
    inner: optax.GradientTransformation, other: optax.GradientTransformation
) -> optax.GradientTransformation:
    """The directions of `inner`, each leaf as long as that of `other`."""

    def init(params: Params) -> Any:
        return inner.init(params), other.init(params)

    def update(updates, state, params=None):
        direction, first = inner.update(updates, state[0], params)
        sizes, second = other.update(updates, state[1], params)

        def one(u, by):
            norm = jnp.linalg.norm(u.ravel())
            return u * jnp.linalg.norm(by.ravel()) / jnp.where(norm > 0, norm, 1)

        return jax.tree.map(one, direction, sizes), (first, second)

    return optax.GradientTransformation(init, update)


def scale_by_shampoo(
    momentum: Scalar = 0.9,
    eps: Scalar = 1e-4,
    b2: Scalar | None = None,
    graft: Literal["none", "sgd", "adam"] = "none",
    update_interval: int = 10,
    max_precond_dim: int = 1024,
) -> optax.GradientTransformation:
    """u = L^(-1/4) g R^(-1/4) for matrices, L = eps I + sum g g^T, R of g^T g; heavy-ball momentum.

    b2: of averages in place of the sums. graft: the rule that gives each leaf the length of its
    step (arXiv:2002.09018). The roots are renewed every update_interval updates. Axes of more than
    max_precond_dim entries have no matrix; leaves without any have Adagrad.
    """
    check_count("update_interval", update_interval)
    check_count("max_precond_dim", max_precond_dim)
    check_name("graft", graft, GRAFTS)

    def labels(params: Params) -> Params:
        axes = kronecker.axes
        return jax.tree.map(lambda p: "roots" if axes(p, max_precond_dim) else "adagrad", params)

    rules = {
        "roots": _scale_by_roots(b2, eps, update_interval, max_precond_dim),
        "adagrad": optax.scale_by_rss(0.0, 1e-10),
    }
    direction = optax.partition({**rules}, labels)
    size = GRAFTS[graft]
    if size is not None:
        direction = _grafted(direction, size())
    return optax.chain(direction, optax.trace(momentum))


ENTRIES = (
    HandDesigned(
        "shampoo",
        Direction(scale_by_shampoo),
        1e-2,
        source="arXiv:1802.09568",
        formula="u = L^(-1/4) g R^(-1/4), L = eps I + sum g g^T, R = eps I + sum g^T g",
    ),
)
