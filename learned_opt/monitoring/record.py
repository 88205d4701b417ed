"""A transformation that remembers how gradients, updates and parameters were distributed."""

from collections.abc import Sequence
from functools import cache
from itertools import groupby
from math import ceil, log, prod
from numbers import Integral
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from learned_opt.base import Params
from learned_opt.columns import is_trained
from learned_opt.monitoring.statistics import Statistics, statistics

KEEP = 64


class LeafRecord(NamedTuple):
    """Of one tensor at one update."""

    gradient: Statistics
    update: Statistics  # what is added to the parameters
    params: Statistics  # before the update
    cosine: Float[Array, ""]  # of the step with steepest descent, in [-1, 1]; 0 where either is 0
    ratio: Float[Array, ""]  # rms of the update over that of the parameters, 0 where they are 0


class Record(NamedTuple):
    inner: Any  # state of the transformation within
    count: Int[Array, ""]  # updates made so far
    kept: Int[Array, ""]  # records made so far
    steps: Int[Array, " slots"]  # update that a slot is of, from 0; -1 while it is empty
    values: Float[Array, "slots tensors numbers"]  # LeafRecords, flat: one array compiles sooner
    names: Any  # {path: None} of the tensors, in order: part of the structure, without arrays


def record(
    tx: optax.GradientTransformation, at: int | Sequence[int] = 100, keep: int | None = None
) -> optax.GradientTransformationExtraArgs:
    """`tx`, with statistics of every tensor kept in the state at chosen updates; see `records`.

    at: a number: every that many updates, the first among them; several: those updates, counted
    from 0. keep: how many records stay, the latest ones (64, or all of `at`); one takes 1.7 kB a
    tensor. Updates are what `tx` makes them, and nothing leaves the device. Under vmap every update
    pays for the statistics, elsewhere those that are recorded.

    Raises ValueError for what is not allowed and where `update` gets no params.
    """
    due_at, slots = _schedule(at, keep)
    within = optax.with_extra_args_support(tx)

    def init(params: Params):
        names = dict.fromkeys(sorted(_trained(params)))
        return Record(
            inner=within.init(params),
            count=jnp.zeros((), jnp.int32),
            kept=jnp.zeros((), jnp.int32),
            steps=jnp.full(slots, -1, jnp.int32),
            values=jnp.zeros((slots, len(names), _width()), jnp.float32),
            names=names,
        )

    def update(updates, state, params=None, **extra):
        if params is None:
            raise ValueError("record measures the parameters, too: pass params=")
        gradients = updates
        updates, inner = within.update(updates, state.inner, params, **extra)
        due = (
            state.count % due_at == 0 if isinstance(due_at, int) else jnp.isin(state.count, due_at)
        )
        measured = jax.lax.cond(
            due,
            _measure,
            lambda *trees: jnp.zeros(state.values.shape[1:], jnp.float32),
            *map(_trained, (gradients, updates, params)),
        )
        # Out of bounds where nothing is due: writing one row in place beats copying all of them.
        slot = jnp.where(due, state.kept % slots, slots)
        steps = state.steps.at[slot].set(state.count, mode="drop")
        values = state.values.at[slot].set(measured, mode="drop")
        kept = state.kept + due.astype(jnp.int32)
        return updates, Record(inner, state.count + 1, kept, steps, values, state.names)

    return optax.GradientTransformationExtraArgs(init, update)


def _schedule(at: int | Sequence[int], keep: int | None) -> tuple[Any, int]:
    several = not isinstance(at, Integral)
    numbers = [*at] if isinstance(at, Sequence) else [at]
    least = 0 if several else 1
    wrong = [n for n in numbers if not isinstance(n, Integral) or isinstance(n, bool) or n < least]
    if wrong or not numbers:
        allowed = "whole numbers, at least 0, one or more" if several else "at least 1"
        raise ValueError(f"at: {at} is not allowed; it must be {allowed}")
    slots = (len(set(numbers)) if several else KEEP) if keep is None else keep
    if slots < 1:
        raise ValueError(f"keep: {keep} is not allowed; it must be at least 1")
    return (np.unique(numbers) if several else int(numbers[0])), slots


def _trained(tree: Params) -> dict[str, Array]:
    """The floating-point leaves that hold anything, by path."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): jnp.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if is_trained(leaf)
    }


def _measure(
    gradients: dict[str, Array], updates: dict[str, Array], params: dict[str, Array]
) -> Float[Array, "tensors numbers"]:
    """Tensors of like size are measured together, so that many are a program of few operations."""
    names, rows = sorted(params, key=lambda name: (params[name].size, name)), []
    like = lambda name: ceil(log(params[name].size, 4))
    for _, same in groupby(names, like):
        group = list(same)
        sizes = [params[name].size for name in group]
        padded = [
            [_padded(tree[name], sizes[-1]) for tree in (gradients, updates, params)]
            for name in group
        ]
        rows.append(jax.vmap(_flat)(jnp.asarray(padded), jnp.asarray(sizes)))
    return jnp.concatenate(rows)[np.argsort(names)] if rows else jnp.zeros((0, _width()))


def _padded(leaf: Array, size: int) -> Float[Array, " n"]:
    flat = jnp.asarray(leaf, jnp.float32).ravel()
    return jnp.pad(flat, (0, size - flat.size))


def _leaf(tensors: Float[Array, "3 n"], size: Int[Array, ""]) -> LeafRecord:
    """tensors: gradient, update and parameters, of which the first `size` entries count."""
    each = jax.vmap(statistics, (0, None))(tensors, size)
    g, u, p = (jax.tree.map(lambda x, i=i: x[i], each) for i in range(3))
    weighs = p.rms > 0
    ratio = jnp.where(weighs, u.rms / jnp.where(weighs, p.rms, 1.0), 0.0)
    return LeafRecord(g, u, p, -_cosine(tensors[:2]), jnp.nan_to_num(ratio))


def _cosine(pair: Float[Array, "2 n"]) -> Float[Array, ""]:
    """0 where a tensor is; entries that are not finite count as 0."""
    pair = jnp.where(jnp.isfinite(pair), pair, 0.0)
    largest = jnp.max(jnp.abs(pair), 1, keepdims=True)
    pair = pair / jnp.where(largest > 0, largest, 1.0)
    squares = jnp.sum(jnp.square(pair), 1, keepdims=True)
    unit = pair / jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
    return jnp.clip(jnp.sum(unit[0] * unit[1]), -1.0, 1.0)


def _flat(tensors: Float[Array, "3 n"], size: Int[Array, ""]) -> Float[Array, " numbers"]:
    parts = jax.tree.leaves(_leaf(tensors, size))
    return jnp.concatenate([jnp.atleast_1d(part).astype(jnp.float32) for part in parts])


@cache
def _shapes() -> LeafRecord:
    return jax.eval_shape(_leaf, jnp.zeros((3, 1)), jnp.ones((), jnp.int32))


def _width() -> int:
    return sum(prod(part.shape) for part in jax.tree.leaves(_shapes()))


def records(state: Any, after: int = -1) -> list[dict[str, Any]]:
    """What `record` has kept, found anywhere inside `state`, as rows of plain Python values.

    One row for each update later than number `after` and each tensor, in this order: "step" (from
    0), "leaf" (its path), the Statistics "gradient", "update" and "params" as dicts of numbers and
    lists, "cosine" and "ratio". No rows where nothing records. Not for a state with a vmapped axis:
    take one of its entries.
    """
    rows = []
    for node in jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, Record)):
        if not isinstance(node, Record):
            continue
        steps = np.asarray(node.steps)
        slots = [int(slot) for slot in np.argsort(steps) if steps[slot] > after]
        values = np.asarray(node.values) if slots else np.zeros(0)
        rows += [
            {"step": int(steps[slot]), "leaf": name, **_plain(values[slot, i])}
            for slot in slots
            for i, name in enumerate(node.names)
        ]
    return rows


def _plain(numbers: np.ndarray) -> dict[str, Any]:
    """The fields of a LeafRecord from its flat form."""
    parts, rest = [], numbers
    leaves, structure = jax.tree.flatten(_shapes())
    for leaf in leaves:
        size = prod(leaf.shape)
        parts.append(rest[:size].astype(leaf.dtype).reshape(leaf.shape).tolist())
        rest = rest[size:]
    found = jax.tree.unflatten(structure, parts)._asdict()
    return {k: v._asdict() if isinstance(v, Statistics) else v for k, v in found.items()}
