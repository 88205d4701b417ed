"""An update that is one compiled program, also for who calls it outside jit."""

from collections.abc import Callable
from numbers import Number
from typing import Any, TypeVar

import jax
import numpy as np
import optax

State = TypeVar("State")


def compiled(
    tx: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """`tx` with a compiled update."""
    return optax.GradientTransformationExtraArgs(tx.init, compiled_update(tx.update))


def compiled_update(
    update: Callable[..., tuple[Any, State]],
) -> Callable[..., tuple[Any, State]]:
    """`update`, which JAX compiles once for each structure of its arguments.

    Under jit, vmap or grad the update is traced into the program around it. A keyword argument that
    is no array, such as `obj_fn`, is no argument of a compiled program either: such an update runs
    as `update` itself does.
    """
    program = jax.jit(update, inline=True)

    def run(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, State]:
        chosen = program if all(map(_is_array, jax.tree.leaves(extra))) else update
        return chosen(updates, state, params, **extra)

    return run


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | Number)
