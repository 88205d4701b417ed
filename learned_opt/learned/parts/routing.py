"""Which rule moves which parameter, as a user says it."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

from learned_opt.base import Params
from learned_opt.hand.paths import path_of
from learned_opt.naming import nearest

# Names in a tree whose leaves may stand for whole subtrees, or a function from parameters to one.
Labels = Any


def route(labels: Labels, allowed: Sequence[str]) -> Callable[[Params], Params]:
    """A function from parameters to one of the allowed names for each of them.

    It raises ValueError with every parameter that has no label, every label that has no parameter
    and every name that is not allowed.
    """

    def of(params: Params) -> Params:
        tree = labels(params) if callable(labels) else labels
        given = dict(jax.tree_util.tree_flatten_with_path(tree)[0])
        problems = [
            f"{path_of(path) or 'all'}: {label!r} is not allowed{nearest(str(label), allowed)} "
            f"(allowed: {', '.join(allowed)})"
            for path, label in given.items()
            if not (isinstance(label, str) and label in allowed)
        ]
        found, used = [], set()
        for path, leaf in jax.tree_util.tree_flatten_with_path(params, is_leaf=_is_place)[0]:
            above = next((path[:i] for i in range(len(path) + 1) if path[:i] in given), None)
            if above is not None:
                used.add(above)
                found += [] if _is_place(leaf) else [given[above]]
            elif not _is_place(leaf):
                problems.append(f"{path_of(path)}: has no label")
        problems += [f"{path_of(path)}: is not a parameter" for path in given if path not in used]
        if problems:
            raise ValueError("labels: " + "; ".join(problems))
        return jax.tree.unflatten(jax.tree.structure(params), found)

    return of


def _is_place(node: Any) -> bool:
    """Where a parameter is left out, by optax.masked or as None; a label for it does no harm."""
    return node is None or isinstance(node, optax.MaskedNode)
