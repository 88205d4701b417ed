"""A parameter tree as stacks: the tensors of one shape in one array."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from learned_opt.base import Params
from learned_opt.columns import is_trained, leaves_like, refuse_complex


@dataclass(frozen=True)
class Stacks:
    """The shape of a parameter tree seen as stacks, in order of first appearance.

    Tensors of one shape are updated as one batch, so depth does not lengthen compilation. Only
    floating-point leaves that are not empty take part; the others never move.
    """

    shapes: tuple[tuple[int, ...], ...]  # of the tensors of each stack; a scalar's is (1,)
    places: tuple[tuple[int, ...], ...]  # of each stack's tensors among all leaves
    total: int  # of all leaves

    @staticmethod
    def of(params: Params) -> "Stacks":
        """Raises ValueError on complex leaves."""
        refuse_complex(params)
        found: dict[tuple[int, ...], list[int]] = {}
        leaves = jax.tree.leaves(params)
        for i, leaf in enumerate(leaves):
            if is_trained(leaf):
                found.setdefault(jnp.shape(leaf) or (1,), []).append(i)
        return Stacks(tuple(found), tuple(map(tuple, found.values())), len(leaves))

    @property
    def scalars(self) -> int:
        """Of all tensors together."""
        pairs = zip(self.counts, self.shapes, strict=True)
        return sum(count * math.prod(shape) for count, shape in pairs)

    @property
    def counts(self) -> tuple[int, ...]:
        """Tensors in each stack."""
        return tuple(len(places) for places in self.places)

    def gather(self, tree: Params) -> tuple[Float[Array, "_ *_"], ...]:
        """The stacks [n, *shape] of a tree, in float32.

        Raises ValueError where it is not like the parameters.
        """
        shapes = {i: s for s, at in zip(self.shapes, self.places, strict=True) for i in at}
        leaves = leaves_like(tree, self.total, shapes)
        return self.together([jnp.asarray(leaves[i], jnp.float32) for i in sorted(shapes)])

    def together(self, tensors: Sequence[Float[Array, "*_"]]) -> tuple[Float[Array, "_ *_"], ...]:
        """The stacks of the leaves that take part, given in their order."""
        order = {place: i for i, place in enumerate(sorted(chain(*self.places)))}
        return tuple(
            jnp.stack([jnp.reshape(tensors[order[i]], shape) for i in places])
            for shape, places in zip(self.shapes, self.places, strict=True)
        )

    def apart(
        self, stacks: Sequence[Inexact[Array, "_ *_"]], like: Params
    ) -> list[Inexact[Array, "*_"]]:
        """The inverse of `together`, in the shapes of `like`'s leaves."""
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(like) if is_trained(leaf)]
        return [x.reshape(s) for x, s in zip(self.entries(stacks), shapes, strict=True)]

    def entries(self, stacks: Sequence[Inexact[Array, "_ *_"]]) -> list[Inexact[Array, "*_"]]:
        """What the stacks hold of each leaf that takes part, in the order of the leaves."""
        found = {
            i: entry
            for stack, places in zip(stacks, self.places, strict=True)
            for i, entry in zip(places, stack, strict=True)
        }
        return [found[i] for i in sorted(found)]

    def scatter(self, stacks: Sequence[Float[Array, "_ *_"]], like: Params) -> Params:
        """The inverse of `gather`: `like`'s shapes and dtypes, zeros where nothing is trained."""
        leaves, treedef = jax.tree.flatten(like)
        tensors = iter(self.apart(stacks, like))
        return treedef.unflatten(
            next(tensors).astype(jnp.result_type(leaf))
            if is_trained(leaf)
            else jnp.zeros_like(leaf)
            for leaf in leaves
        )

    def split(self, rows: Float[Array, "t d"]) -> list[Float[Array, "_ d"]]:
        """Rows of all tensors, stack after stack, as the rows of each stack."""
        ends = [sum(self.counts[: i + 1]) for i in range(len(self.counts) - 1)]
        return jnp.split(rows, ends)


def over_tensors(one: Callable[..., Any], *stacks: Any) -> Any:
    """The results of `one`, of a tensor each, as stacks; trees of stacks give its arguments.

    One tensor after the other: all at once, XLA would work out much of `one` again for every slice
    of a stack, and its intermediate arrays would not fit in the caches.
    """
    if jax.tree.leaves(stacks)[0].shape[0] > 1:
        return jax.lax.map(lambda arguments: one(*arguments), stacks)
    return jax.tree.map(lambda x: x[None], one(*jax.tree.map(lambda x: x[0], stacks)))
