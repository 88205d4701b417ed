"""A parameter tree as one row of columns, a column per scalar, grouped by tensor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple

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


def leaves_like(tree: Params, total: int, shapes: Mapping[int, tuple[int, ...]]) -> list[Any]:
    """The leaves of a tree of updates or parameters.

    total: how many the parameters have. shapes: those of the trained ones, by their place. Raises
    ValueError where the tree has others.
    """
    leaves = jax.tree.leaves(tree)
    if len(leaves) != total:
        raise ValueError(
            f"updates: {len(leaves)} arrays, where the parameters have {total} (None is no array)"
        )
    for i, shape in shapes.items():
        if (jnp.shape(leaves[i]) or (1,)) != (shape or (1,)):
            raise ValueError(
                f"updates: array {i} has shape {jnp.shape(leaves[i])}, its parameter {shape}"
            )
    return leaves


class Group(NamedTuple):
    """Tensors of one size, whose columns lie side by side."""

    first: int  # of its tensors
    tensors: int
    size: int  # scalars of each
    start: int  # of its columns

    @property
    def columns(self) -> slice:
        return slice(self.start, self.start + self.tensors * self.size)

    @property
    def places(self) -> slice:
        """Of its tensors."""
        return slice(self.first, self.first + self.tensors)


@dataclass(frozen=True)
class Columns:
    """The shape of a parameter tree seen as columns; `sizes` are the scalars of each tensor.

    Only floating-point leaves that are not empty take part; the others never move. Tensors of one
    size lie side by side, so that a tree of many tensors is a program of few operations; `order`
    holds for each its place among the leaves that take part.
    """

    sizes: tuple[int, ...]
    order: tuple[int, ...]

    @staticmethod
    def of(params: Params) -> "Columns":
        """Raises ValueError on complex leaves."""
        refuse_complex(params)
        sizes = [int(jnp.size(leaf)) for leaf in jax.tree.leaves(params) if is_trained(leaf)]
        return Columns.by_size(sizes)

    @staticmethod
    def by_size(sizes: Sequence[int]) -> "Columns":
        """Of tensors with so many scalars, the largest first."""
        order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
        return Columns(tuple(sizes[i] for i in order), tuple(order))

    @property
    def total(self) -> int:
        return sum(self.sizes)

    @property
    def places(self) -> tuple[int, ...]:
        """Where each leaf that takes part stands."""
        return tuple(sorted(range(len(self.order)), key=self.order.__getitem__))

    @property
    def last(self) -> int:
        """Where the last leaf stands."""
        return self.places[-1]

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        found, start = [], 0
        for size, run in groupby(enumerate(self.sizes), key=lambda place: place[1]):
            first, *rest = (i for i, _ in run)
            found.append(Group(first, 1 + len(rest), size, start))
            start += (1 + len(rest)) * size
        return tuple(found)

    def gather(self, tree: Params, like: Params) -> Float[Array, " n"]:
        """The scalars of `tree` in float32, taking the leaves that are trained in `like`.

        Raises ValueError where the two are not alike.
        """
        models = jax.tree.leaves(like)
        shapes = {i: jnp.shape(leaf) for i, leaf in enumerate(models) if is_trained(leaf)}
        leaves = leaves_like(tree, len(models), shapes)
        kept = [jnp.ravel(leaves[i]).astype(jnp.float32) for i in shapes]
        return jnp.concatenate([kept[i] for i in self.order] or [jnp.zeros(0)])

    def apart(self, row: Float[Array, " n"], like: Params) -> list[Float[Array, "*_"]]:
        """The tensors of a row, in the order and the shapes of the leaves that take part."""
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(like) if is_trained(leaf)]
        starts = [sum(self.sizes[:i]) for i in range(1, len(self.sizes))]
        parts = dict(zip(self.order, jnp.split(row, starts), strict=False))
        return [parts[i].reshape(shape) for i, shape in enumerate(shapes)]

    def scatter(self, row: Float[Array, " n"], like: Params) -> Params:
        """The inverse of `gather`: `like`'s shapes and dtypes, zeros where nothing is trained."""
        leaves, treedef = jax.tree.flatten(like)
        tensors = iter(self.apart(row, like))
        return treedef.unflatten(
            next(tensors).astype(jnp.result_type(leaf))
            if is_trained(leaf)
            else jnp.zeros_like(leaf)
            for leaf in leaves
        )

    def mean(self, x: Float[Array, "d n"]) -> Float[Array, "d t"]:
        """Mean over the scalars of each tensor."""
        return jnp.concatenate(
            [
                x[:, group.columns].reshape(x.shape[0], group.tensors, group.size).mean(axis=-1)
                for group in self.groups
            ],
            axis=-1,
        )

    def spread(self, x: Float[Array, "d t"]) -> Float[Array, "d n"]:
        """Gives every scalar its tensor's column."""
        return jnp.concatenate([self.spread_in(group, x) for group in self.groups], axis=-1)

    def spread_in(self, group: Group, x: Float[Array, "d t"]) -> Float[Array, "d m"]:
        """`spread` for the scalars of one group."""
        shape = (x.shape[0], group.tensors, group.size)
        wide = jnp.broadcast_to(x[:, group.places, None], shape)
        return wide.reshape(x.shape[0], group.tensors * group.size)


def tame(gradient: Float[Array, "*d"]) -> Float[Array, "*d"]:
    """Non-finite entries become 0 and the others stay within +-1e15."""
    gradient = jnp.where(jnp.isfinite(gradient), gradient, 0.0)
    return jnp.clip(gradient, -LARGEST_GRADIENT, LARGEST_GRADIENT)
