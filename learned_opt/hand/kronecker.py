"""One symmetric matrix for each axis of a tensor, as SOAP and Shampoo keep them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_opt.anchors.rotation import along_axis

Matrices = tuple[Float[Array, "n n"], ...]


def axes(leaf: Any, largest: int) -> tuple[int, ...]:
    """The axes with a matrix: of 2 to `largest` entries, none for vectors and scalars."""
    if leaf.ndim < 2:
        return ()
    return tuple(i for i, size in enumerate(leaf.shape) if 1 < size <= largest)


def each(leaf: Any, largest: int, make: Callable[[int], Any]) -> tuple[Any, ...]:
    """`make(size)` for every axis of `leaf` with a matrix."""
    return tuple(make(leaf.shape[axis]) for axis in axes(leaf, largest))


def outer(leaf: Float[Array, "..."], largest: int) -> Matrices:
    """The products of `leaf` with itself over all axes but one."""

    def one(axis: int) -> Float[Array, "n n"]:
        rows = jnp.moveaxis(leaf, axis, 0).reshape(leaf.shape[axis], -1)
        return rows @ rows.T

    return tuple(one(axis) for axis in axes(leaf, largest))


def rotated(
    leaf: Float[Array, "..."], matrices: Sequence[Any], largest: int, back: bool = False
) -> Float[Array, "..."]:
    """`leaf` times each axis's matrix: transposed, so into the basis of its columns, or back."""
    for axis, matrix in zip(axes(leaf, largest), matrices, strict=True):
        leaf = along_axis(leaf, matrix, axis, back)
    return leaf
