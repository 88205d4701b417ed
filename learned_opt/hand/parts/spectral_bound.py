"""Steps bounded by the largest singular value of the matrix they are for."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from learned_opt.base import Params
from learned_opt.hand.hyperparameters import Hyperparameter
from learned_opt.hand.parts.base import Part, check_count
from learned_opt.naming import check_name

SCOPES = ("leaf", "global")
LEAST_SIGMA = 1e-3
FIRST_ITERATIONS = 20  # on the weights, before the first step


class Directions(NamedTuple):
    """Where power iteration goes on, for one leaf; () where it has fewer than two axes."""

    weights: Float[Array, " out"] | tuple[()]
    step: Float[Array, " out"] | tuple[()]


def spectral_bound(
    tau: Any = 0.01, scope: str = "leaf", iterations: int = 2
) -> optax.GradientTransformation:
    """step * min(1, tau max(sigma1(w), 1e-3) / sigma1(step)), sigma1 the largest singular value.

    A matrix has the last axis as columns and all others as rows. The factor of the smallest among
    them scales every leaf where scope is `global`; else leaves with fewer than two axes are left
    alone. iterations: of the power method in a step; it goes on from the step before, so that a
    bound of 2 iterations is exact to a few per cent where steps change slowly.
    """
    check_name("parts.spectral_bound.scope", scope, SCOPES)
    check_count("parts.spectral_bound.iterations", iterations)

    def init(params: Params) -> Params:
        return jax.tree.map(_start, params)

    def factor(update: Array, param: Array, at: Directions) -> tuple[Any, Directions]:
        if jnp.ndim(param) < 2:
            return None, at
        w, along_w = sigma_max(param, at.weights, iterations)
        u, along_u = sigma_max(update, at.step, iterations)
        moves = u > 0.0
        ratio = tau * jnp.maximum(w, LEAST_SIGMA) / jnp.where(moves, u, 1.0)
        return jnp.where(moves, jnp.minimum(1.0, ratio), 1.0), Directions(along_w, along_u)

    def update(updates, state, params=None):
        leaves, structure = jax.tree.flatten(updates)
        given = zip(
            leaves, structure.flatten_up_to(params), structure.flatten_up_to(state), strict=True
        )
        found = [factor(*each) for each in given]
        factors: list[Any] = [f for f, _ in found]
        if scope == "global":
            smallest = [f for f in factors if f is not None]
            factors = [jnp.min(jnp.stack(smallest)) if smallest else None] * len(factors)
        scaled = [
            u if f is None else u * f.astype(u.dtype) for u, f in zip(leaves, factors, strict=True)
        ]
        return structure.unflatten(scaled), structure.unflatten([at for _, at in found])

    return optax.GradientTransformation(init, update)


def sigma_max(
    matrix: Float[Array, "..."], along: Any, iterations: int
) -> tuple[Float[Array, ""], Float[Array, " out"]]:
    """The largest singular value by the power method, and the right vector found.

    along: unit vector to start from. Never above the true value.
    """
    flat = matrix.reshape(-1, matrix.shape[-1])

    def turn(_, along):
        image = flat.T @ (flat @ along)
        norm = jnp.linalg.norm(image)
        return jnp.where(norm > 0.0, image / jnp.where(norm > 0.0, norm, 1.0), along)

    along = jax.lax.fori_loop(0, iterations, turn, along)
    return jnp.linalg.norm(flat @ along), along


def _start(param: Array) -> Directions:
    if jnp.ndim(param) < 2:
        return Directions((), ())

    def vector(seed: int) -> Array:
        drawn = jax.random.normal(jax.random.key(seed), (param.shape[-1],), param.dtype)
        return drawn / jnp.linalg.norm(drawn)

    return Directions(sigma_max(param, vector(0), FIRST_ITERATIONS)[1], vector(1))


PARTS = {
    "spectral_bound": Part(
        "update",
        spectral_bound,
        "the largest singular value of a step is at most tau times the matrix's",
        "arXiv:2505.21910",
        ("params",),
        {"tau": Hyperparameter("log", 1e-3, 0.1, open=True)},
    )
}
