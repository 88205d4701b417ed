"""An update that is one compiled program, also for who calls it outside jit."""

from numbers import Number
from typing import Any

import jax
import numpy as np
import optax


def compiled(
    tx: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """`tx`, whose update JAX compiles once for each structure of its arguments.

    Under jit, vmap or grad the update is traced into the program around it. A keyword argument that
    is no array, such as `obj_fn`, is no argument of a compiled program either: such an update runs
    as `tx` itself does.
    """
    program = jax.jit(tx.update, inline=True)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        chosen = program if all(map(_is_array, jax.tree.leaves(extra))) else tx.update
        return chosen(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | Number)
