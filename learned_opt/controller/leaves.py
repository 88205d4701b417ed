"""The parameters that a controller measures and restores, apart from the tree they live in."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from learned_opt.base import Params
from learned_opt.columns import is_trained

Leaves = list[Array]  # float32 copies of what is trained, in the order of the tree


def trained(tree: Params, params: Params) -> Leaves:
    """The leaves of `tree` that are trained in `params`, in float32 and as buffers of their own."""
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(params), strict=True)
    return [jnp.array(leaf, jnp.float32) for leaf, param in pairs if is_trained(param)]


def placed(leaves: Leaves, params: Params, where: Bool[Array, ""]) -> Params:
    """`params` with the trained ones replaced, in their own dtypes, if `where`."""
    found, treedef = jax.tree.flatten(params)
    new = iter(leaves)
    return treedef.unflatten(
        jnp.where(where, next(new).astype(jnp.result_type(p)), p) if is_trained(p) else p
        for p in found
    )


def select(where: Bool[Array, ""], one: Any, other: Any) -> Any:
    """The tree `one` if `where`, else `other`, bit for bit."""
    return jax.tree.map(lambda a, b: jnp.where(where, a, b), one, other)
