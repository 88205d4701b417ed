"""The basis that a tensor is rotated into: eigenvectors of averages of its gradient's products."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from learned_opt.branch import update_where

Matrices = tuple[Float[Array, "_ _ _"], ...]  # [block, n, n] for each rotated axis
Method = Literal["qr", "jacobi"]

LARGEST_TURN = 0.3  # radians; of a row of simultaneous Jacobi rotations
TINY = 1e-30


class Axis(NamedTuple):
    """A rotated axis: `blocks` runs of `size` entries, each rotated on its own."""

    place: int
    blocks: int
    size: int


@dataclass(frozen=True)
class Rotation:
    """Which axes of a tensor rotate.

    max_dim: the largest block; a longer axis is cut into equal blocks of at most that many entries,
    and stays unrotated where its length has no divisor from max_dim / 4 to max_dim. one_side:
    rotates the shortest of these axes only.
    """

    max_dim: int
    one_side: bool = False

    def axes(self, shape: tuple[int, ...]) -> tuple[Axis, ...]:
        """The axes of a tensor of this shape that rotate; none for vectors and scalars."""
        if len(shape) < 2:
            return ()
        found = [
            Axis(place, length // size, size)
            for place, length in enumerate(shape)
            if (size := self._block(length)) > 1
        ]
        if self.one_side:
            found = sorted(found, key=lambda axis: shape[axis.place])[:1]
        return tuple(found)

    def _block(self, length: int) -> int:
        if length <= self.max_dim:
            return length
        sizes = range(self.max_dim, max(1, self.max_dim // 4 - 1), -1)
        return next((size for size in sizes if length % size == 0), 1)

    def identity(self, shape: tuple[int, ...]) -> Matrices:
        return tuple(
            jnp.tile(jnp.eye(axis.size, dtype=jnp.float32), (axis.blocks, 1, 1))
            for axis in self.axes(shape)
        )

    def products(self, tensor: Float[Array, "*s"]) -> Matrices:
        """The products of the tensor with itself over all axes but one, block by block."""
        found = []
        for axis in self.axes(tensor.shape):
            rows = jnp.moveaxis(tensor, axis.place, 0).reshape(axis.blocks, axis.size, -1)
            found.append(rows @ jnp.swapaxes(rows, 1, 2))
        return tuple(found)

    def into(self, bases: Matrices, tensor: Float[Array, "*s"]) -> Float[Array, "*s"]:
        """The tensor's coordinates in the basis of the columns of `bases`."""
        return self._turned(bases, tensor, back=False)

    def back(self, bases: Matrices, tensor: Float[Array, "*s"]) -> Float[Array, "*s"]:
        """The inverse of `into`."""
        return self._turned(bases, tensor, back=True)

    def _turned(
        self, bases: Matrices, tensor: Float[Array, "*s"], back: bool
    ) -> Float[Array, "*s"]:
        for axis, basis in zip(self.axes(tensor.shape), bases, strict=True):
            if axis.blocks == 1:
                tensor = along_axis(tensor, basis[0], axis.place, back)
                continue
            rows = jnp.moveaxis(tensor, axis.place, 0)
            blocks = rows.reshape(axis.blocks, axis.size, -1)
            matrix = basis if back else jnp.swapaxes(basis, 1, 2)
            tensor = jnp.moveaxis((matrix @ blocks).reshape(rows.shape), 0, axis.place)
        return tensor


def along_axis(
    tensor: Float[Array, "*s"], matrix: Float[Array, "n n"], axis: int, back: bool = False
) -> Float[Array, "*s"]:
    """The coordinates of one axis in the basis of the matrix's columns, or from there back."""
    product = jnp.tensordot(tensor, matrix, axes=(axis, 1 if back else 0))
    return jnp.moveaxis(product, -1, axis)


def refreshed(
    factors: Sequence[Matrices],
    bases: Sequence[Matrices],
    first: Bool[Array, ""],
    due: Bool[Array, ""] | Sequence[Bool[Array, ""]],
    method: Method = "qr",
) -> list[Matrices]:
    """The bases of several tensors, brought closer to the eigenvectors of `factors` where due.

    first: takes the eigenvectors themselves, whatever the bases are. due: for all tensors or for
    each. method: "qr" is a step of power iteration; "jacobi" turns every pair of columns a little,
    by matrix products only, which an accelerator prefers, and starts that way too. The order of
    columns stays as it is, so that what is kept in their coordinates stays where it is. Matrices of
    one size are one batch, so that many tensors are a program of few operations.
    """
    if method == "qr" and not isinstance(due, Sequence):
        # Matrices are joined within the branch: updates without a refresh then copy none of them.
        refresh = lambda bases, factors, first: _by_size(partial(_closer, first), bases, factors)
        return update_where(first | due, refresh, list(bases), list(factors), first)
    each = due if isinstance(due, Sequence) else [due] * len(bases)
    dues = [
        tuple(jnp.full(len(matrix), first | is_due) for matrix in matrices)
        for matrices, is_due in zip(bases, each, strict=True)
    ]
    if method == "jacobi":
        turned = lambda old, goal, due: jnp.where(due[:, None, None], _jacobi(old, goal), old)
        return _by_size(turned, bases, factors, dues)
    one = lambda old, goal, due: update_where(due, _closer_one, old, goal, first)
    return _by_size(jax.vmap(one), bases, factors, dues)


def above_rounding(square: Float[Array, "*s"]) -> Bool[Array, "*s"]:
    """Where averages of squares in a rotated basis are more than what rounding leaves of zeros."""
    return square > (64 * jnp.finfo(square.dtype).eps) ** 2 * jnp.sum(square)


def _by_size(change: Callable[..., Array], *trees: Sequence[tuple[Array, ...]]) -> list[Matrices]:
    """`change` of the matrices of all tensors, those of one size as one batch of blocks.

    trees: bases first; for each tensor and each of its matrices an array with an axis of blocks.
    """
    places: dict[int, list[tuple[int, int]]] = {}
    for i, matrices in enumerate(trees[0]):
        for axis, matrix in enumerate(matrices):
            places.setdefault(matrix.shape[-1], []).append((i, axis))
    found: list[list[Any]] = [[None] * len(matrices) for matrices in trees[0]]
    for alike in places.values():
        batches = [jnp.concatenate([tree[i][axis] for i, axis in alike]) for tree in trees]
        ends = itertools.accumulate(len(trees[0][i][axis]) for i, axis in alike)
        changed = jnp.split(change(*batches), list(ends)[:-1])
        for (i, axis), matrices in zip(alike, changed, strict=True):
            found[i][axis] = matrices
    return [tuple(matrices) for matrices in found]


def _closer(
    first: Bool[Array, ""], bases: Float[Array, "k n n"], factors: Float[Array, "k n n"]
) -> Float[Array, "k n n"]:
    """The eigenvectors at first, else a step towards them."""
    return jax.lax.cond(first, _eigenvectors, _iterated, bases, factors)


def _closer_one(
    basis: Float[Array, "n n"], factor: Float[Array, "n n"], first: Bool[Array, ""]
) -> Float[Array, "n n"]:
    return _closer(first, basis[None], factor[None])[0]


def _eigenvectors(bases: Float[Array, "k n n"], factors: Float[Array, "k n n"]):
    """The largest eigenvalue's first."""
    del bases
    return jnp.linalg.eigh(factors, symmetrize_input=False)[1][..., ::-1]


def _iterated(bases: Float[Array, "k n n"], factors: Float[Array, "k n n"]):
    """A step of power iteration; columns are made orthogonal in the order of their eigenvalues.

    Ranks by comparison and a product with a permutation compile faster than a sort and a gather.
    """
    product = factors @ bases
    values = jnp.sum(bases * product, axis=1)
    above = values[:, :, None] < values[:, None, :]
    index = jnp.arange(values.shape[1])
    tied = (values[:, :, None] == values[:, None, :]) & (index[:, None] > index)
    rank = jnp.sum(above | tied, axis=2)
    permutation = (rank[:, :, None] == index).astype(bases.dtype)  # column i goes to rank i
    return jnp.linalg.qr(product @ permutation)[0] @ jnp.swapaxes(permutation, 1, 2)


def _jacobi(bases: Float[Array, "k n n"], factors: Float[Array, "k n n"]):
    """All Jacobi rotations at once, shortened, and the bases made orthonormal again."""
    turn = jnp.swapaxes(bases, 1, 2) @ factors @ bases
    scale = jnp.trace(turn, axis1=1, axis2=2)[:, None, None]
    turn = turn / jnp.maximum(scale, TINY)
    values = jnp.diagonal(turn, axis1=1, axis2=2)
    gaps = values[:, :, None] - values[:, None, :]
    angles = 0.5 * jnp.arctan2(2.0 * turn, jnp.abs(gaps)) * jnp.where(gaps < 0, -1.0, 1.0)
    upper = jnp.triu(angles, 1)
    skew = upper - jnp.swapaxes(upper, 1, 2)
    longest = jnp.max(jnp.linalg.norm(skew, axis=2), axis=1)[:, None, None]
    skew = skew * jnp.minimum(1.0, LARGEST_TURN / jnp.maximum(longest, TINY))
    bases = bases - bases @ skew
    identity = jnp.eye(bases.shape[-1], dtype=bases.dtype)
    for _ in range(2):  # Newton-Schulz
        bases = bases @ (1.5 * identity - 0.5 * jnp.swapaxes(bases, 1, 2) @ bases)
    return bases
