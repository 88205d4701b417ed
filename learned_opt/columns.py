"""A parameter tree as one row of columns, a column per scalar, grouped by tensor."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_opt.base import Params

# Squares of gradients must stay finite in float32.
LARGEST_GRADIENT = 1e15


def is_trained(leaf: Any) -> bool:
    """Whether an optimizer moves this leaf: it is real floating-point and not empty."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating) and jnp.size(leaf) > 0


def refuse_complex(params: Params) -> None:
    """Raises ValueError on complex leaves."""
    leaves = jax.tree.leaves(params)
    if any(jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating) for leaf in leaves):
        raise ValueError("parameters: complex leaves are not supported; split them in two")


@dataclass(frozen=True)
class Columns:
    """The shape of a parameter tree seen as columns; `sizes` are the scalars of each tensor.

    Only floating-point leaves that are not empty take part; the others never move.
    """

    sizes: tuple[int, ...]

    @staticmethod
    def of(params: Params) -> "Columns":
        """Raises ValueError on complex leaves."""
        refuse_complex(params)
        leaves = jax.tree.leaves(params)
        return Columns(tuple(int(jnp.size(leaf)) for leaf in leaves if is_trained(leaf)))

    @property
    def total(self) -> int:
        return sum(self.sizes)

    def gather(self, tree: Params, like: Params) -> Float[Array, " n"]:
        """The scalars of `tree` in float32, taking the leaves that are trained in `like`."""
        kept = [
            leaf.reshape(-1).astype(jnp.float32)
            for leaf, model in zip(jax.tree.leaves(tree), jax.tree.leaves(like), strict=True)
            if is_trained(model)
        ]
        return jnp.concatenate(kept)

    def scatter(self, row: Float[Array, " n"], like: Params) -> Params:
        """The inverse of `gather`: `like`'s shapes and dtypes, zeros where nothing is trained."""
        leaves, treedef = jax.tree.flatten(like)
        parts = iter(self.split(row))
        return treedef.unflatten(
            next(parts).reshape(jnp.shape(leaf)).astype(leaf.dtype)
            if is_trained(leaf)
            else jnp.zeros_like(leaf)
            for leaf in leaves
        )

    def split(self, x: Float[Array, "*d n"]) -> list[Array]:
        """One array per tensor, cut along the last axis."""
        starts = [sum(self.sizes[:i]) for i in range(1, len(self.sizes))]
        return jnp.split(x, starts, axis=-1)

    def mean(self, x: Float[Array, "d n"]) -> Float[Array, "d t"]:
        """Mean over the scalars of each tensor."""
        return jnp.stack([part.mean(axis=-1) for part in self.split(x)], axis=-1)

    def spread(self, x: Float[Array, "d t"]) -> Float[Array, "d n"]:
        """Gives every scalar its tensor's column."""
        return jnp.concatenate(
            [
                jnp.broadcast_to(x[:, i : i + 1], (x.shape[0], size))
                for i, size in enumerate(self.sizes)
            ],
            axis=-1,
        )


def tame(gradient: Float[Array, "*d"]) -> Float[Array, "*d"]:
    """Non-finite entries become 0 and the others stay within +-1e15."""
    gradient = jnp.where(jnp.isfinite(gradient), gradient, 0.0)
    return jnp.clip(gradient, -LARGEST_GRADIENT, LARGEST_GRADIENT)
