"""One function of columns, for all of them at once or block by block."""

from collections.abc import Callable
from functools import partial
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_opt.columns import Columns, Group

# Columns whose working set stays in a core's cache.
BLOCK = 4096

Rows = Any  # pytree of [*rows, columns]
ColumnFunction = Callable[[Any, Rows, Array], tuple[Rows, list[Array]]]


def over_columns(
    f: ColumnFunction, columns: Columns, weights: Any, rows: Rows, per_tensor: Float[Array, "d t"]
) -> tuple[Rows, list[Float[Array, "_ t"]]]:
    """f(weights, rows, per_tensor) -> (new rows, rows to average), each column by itself.

    f sees any part of the columns, and of per_tensor the column of each scalar's tensor; all its
    rows are float32. Returns the new rows of all columns and the means over every tensor. Groups of
    many columns go through f block by block, which leaves nothing but results in memory;
    derivatives are those of the one pass over all, since a loop would keep every block's operands.
    Accelerators take the one pass over all.
    """
    # Blocks suit caches; an accelerator wants all scalars in one program.
    if jax.default_backend() == "cpu" and any(_is_large(group) for group in columns.groups):
        return _in_blocks(f, columns, weights, rows, per_tensor)
    return _at_once(f, columns, weights, rows, per_tensor)


def each_column(f: Callable[[Any, Rows], Rows], columns: Columns, weights: Any, rows: Rows) -> Rows:
    """f(weights, rows) -> new rows: `over_columns` for rules that treat every scalar by itself."""
    if not columns.total:
        return f(weights, rows)

    def alone(weights: Any, rows: Rows, above: Array) -> tuple[Rows, list[Array]]:
        del above
        return f(weights, rows), []

    nothing = jnp.zeros((0, len(columns.sizes)))
    return over_columns(alone, columns, weights, rows, nothing)[0]


def _is_large(group: Group) -> bool:
    return group.tensors * group.size > 2 * BLOCK


def _at_once(
    f: ColumnFunction, columns: Columns, weights: Any, rows: Rows, per_tensor: Array
) -> tuple[Rows, list[Array]]:
    rows, averaged = f(weights, rows, columns.spread(per_tensor))
    if not averaged:
        return rows, []
    means = columns.mean(jnp.concatenate(averaged))
    ends = [sum(len(x) for x in averaged[: i + 1]) for i in range(len(averaged) - 1)]
    return rows, jnp.split(means, ends)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _in_blocks(
    f: ColumnFunction, columns: Columns, weights: Any, rows: Rows, per_tensor: Array
) -> tuple[Rows, list[Array]]:
    """Large groups in loops, what lies between them at once."""
    shapes = jax.eval_shape(partial(_at_once, f, columns), weights, rows, per_tensor)
    made = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    for large, run in groupby(columns.groups, key=_is_large):
        groups = tuple(run)
        if large:
            for group in groups:
                made = _loop(f, group, weights, rows, per_tensor, made)
            continue
        start, first = groups[0].start, groups[0].first
        own = Columns.by_size([group.size for group in groups for _ in range(group.tensors)])
        cut = jax.tree.map(lambda x, o=own, s=start: x[..., s : s + o.total], rows)
        above = per_tensor[:, first : first + len(own.sizes)]
        made = _put(made, _at_once(f, own, weights, cut, above), start, first)
    return made


def _put(
    made: tuple[Rows, list[Array]], new: tuple[Rows, list[Array]], column: Any, tensor: Any
) -> tuple[Rows, list[Array]]:
    def put(at: Any) -> Callable[[Array, Array], Array]:
        return lambda all, x: jax.lax.dynamic_update_slice_in_dim(all, x, at, -1)

    return jax.tree.map(put(column), made[0], new[0]), jax.tree.map(put(tensor), made[1], new[1])


@_in_blocks.defjvp
def _in_blocks_jvp(
    f: ColumnFunction, columns: Columns, primals: Any, tangents: Any
) -> tuple[Any, Any]:
    return jax.jvp(partial(_at_once, f, columns), primals, tangents)


def _loop(
    f: ColumnFunction,
    group: Group,
    weights: Any,
    rows: Rows,
    per_tensor: Array,
    made: tuple[Rows, list[Array]],
) -> tuple[Rows, list[Array]]:
    """Fills a group's part of `made`, a block of `width` columns of `tensors` tensors at a time.

    The last block of a tensor, or of tensors, begins earlier where it would overrun: it makes some
    columns again, which count once in the means.
    """
    width, tensors = min(group.size, BLOCK), max(1, min(group.tensors, BLOCK // group.size))
    per_row = -(-group.size // width)

    def body(i: Any, made: tuple[Rows, list[Array]]) -> tuple[Rows, list[Array]]:
        due_tensor, due_column = i // per_row * tensors, i % per_row * width
        tensor = jnp.minimum(due_tensor, group.tensors - tensors)
        column = jnp.minimum(due_column, group.size - width)
        start, first = group.start + tensor * group.size + column, group.first + tensor

        def cut(x: Array) -> Array:
            return jax.lax.dynamic_slice_in_dim(x, start, tensors * width, -1)

        above = jax.lax.dynamic_slice_in_dim(per_tensor, first, tensors, -1)
        above = jnp.broadcast_to(above[:, :, None], (above.shape[0], tensors, width))
        above = above.reshape(above.shape[0], tensors * width)
        new, averaged = f(weights, jax.tree.map(cut, rows), above)
        due = (tensor + jnp.arange(tensors) >= due_tensor)[:, None] & (
            column + jnp.arange(width) >= due_column
        )
        share = jnp.where(due, 1.0 / group.size, 0.0)
        means = [
            jax.lax.dynamic_slice_in_dim(mean, first, tensors, -1)
            + (x.reshape(-1, tensors, width) * share).sum(axis=-1)
            for mean, x in zip(made[1], averaged, strict=True)
        ]
        return _put(made, (new, means), start, first)

    return jax.lax.fori_loop(0, -(-group.tensors // tensors) * per_row, body, made)
