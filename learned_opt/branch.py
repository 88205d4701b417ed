"""A branch that stays one under vmap."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool

Tree = Any  # pytree of arrays


def update_where(
    due: Bool[Array, ""], update: Callable[..., Tree], old: Tree, *arguments: Tree
) -> Tree:
    """`update(old, *arguments)` where `due`, else `old`; nothing of `update` runs where it is not.

    `jax.lax.cond` does that too, but under vmap it runs both branches for all. Here, where `due`
    differs between the runs, one run is updated after the other and only those that are due; where
    none is, nothing is. For an update so costly that this is cheaper, such as one by LAPACK, which
    takes the matrices of a batch one by one as well. No derivative passes through `update`.

    update: (tree like `old`, *arguments) -> tree like `old`, the same shapes and dtypes; it must
    not close over traced values.
    """

    @custom_vmap
    def one(due: Bool[Array, ""], old: Tree, arguments: Tree) -> Tree:
        return jax.lax.cond(due, update, lambda old, *_: old, old, *arguments)

    @one.def_vmap
    def several(
        axis_size: int, in_batched: Any, due: Bool[Array, "*n"], old: Tree, arguments: Tree
    ) -> tuple[Tree, Tree]:
        is_due, is_old, are_arguments = in_batched
        old = _with_axis(axis_size, is_old, old)
        if not is_due:
            axes = jax.tree.map(lambda batched: 0 if batched else None, are_arguments)
            found = update_where(due, jax.vmap(update, (0, *axes)), old, *arguments)
        else:
            arguments = _with_axis(axis_size, are_arguments, arguments)
            found = update_where(jnp.any(due), _one_by_one(update), old, due, *arguments)
        return found, jax.tree.map(lambda _: True, old)

    return one(*jax.lax.stop_gradient((due, old, arguments)))


def _one_by_one(update: Callable[..., Tree]) -> Callable[..., Tree]:
    def all_of_them(old: Tree, due: Bool[Array, " n"], *arguments: Tree) -> Tree:
        return jax.lax.map(
            lambda run: update_where(run[0], update, *run[1]), (due, (old, *arguments))
        )

    return all_of_them


def _with_axis(axis_size: int, is_batched: Tree, tree: Tree) -> Tree:
    """`tree` with a leading axis on every leaf."""
    return jax.tree.map(
        lambda batched, x: x if batched else jnp.broadcast_to(x, (axis_size, *jnp.shape(x))),
        is_batched,
        tree,
    )
