"""What an anchor is, and what both of them share: steps relative to the size of their tensor."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from learned_opt.base import Horizon

SMALLEST_RMS = 0.05
EPS = 1e-12
RATE = 0.1
B1 = 0.9
NUM_DIRECTIONS = 3  # of which rules mix: two momenta and the gradient itself

Scalar = float | Array  # may be traced
Momenta = tuple[Scalar, ...]
State = TypeVar("State")


class Plan(NamedTuple):
    """What an anchor's pace depends on.

    horizon: updates the run will make, at least 1; None without a known length. num_params: scalars
    of the whole tree that is trained.
    """

    horizon: Horizon | None
    num_params: int


@runtime_checkable
class Anchor(Protocol[State]):
    """A hand-made rule, one tensor p at a time: p <- p - pace (size(p) back(u) + decay p).

    u, the direction, is a mix of the `directions` that `step` returns, which live in the anchor's
    own coordinates. Learned rules mix them in their way, stretch the step and add to it. All is
    float32. Implementations are frozen dataclasses, so they hash.

    weight_decay: in units of the anchor's own step; of tensors of rank 2 and more. cautious: only
    entries that the direction shrinks too decay. momenta: decays of the averages of gradients, the
    anchor's own, 0.9, first. A state has these averages as `mu`, in the coordinates of the tensor,
    and the average of squares in the anchor's own as `nu`.
    """

    @property
    def weight_decay(self) -> Scalar: ...

    @property
    def cautious(self) -> bool: ...

    def momenta(self) -> Momenta:
        """Two momenta that suit a mix of directions, the anchor's own first."""
        ...

    def init(self, shape: tuple[int, ...], momenta: Momenta) -> State:
        """The state of a tensor that no gradient has come to."""
        ...

    def step(
        self,
        states: Sequence[State],
        gradients: Sequence[Array],
        count: Int[Array, ""],
        momenta: Momenta,
    ) -> tuple[list[State], list[list[Array]]]:
        """The states of all tensors with one more gradient, and the directions of each.

        gradients: float32, finite. count: updates made, with this one. Of directions there is one
        for each momentum and one for none, the gradient itself.
        """
        ...

    def back(self, state: Any, direction: Float[Array, "*s"]) -> Float[Array, "*s"]:
        """A direction in the coordinates of the tensor."""
        ...

    def pace(self, plan: Plan, count: Int[Array, ""]) -> Float[Array, ""]:
        """The size of update number `count`, from 1, over the learning rate."""
        ...


def tensor_size(param: ArrayLike) -> Float[Array, ""]:
    """max(RMS(p), 0.05): the size a step on this tensor is relative to."""
    mean_square = jnp.mean(jnp.square(jnp.asarray(param, jnp.float32)))
    return jnp.sqrt(jnp.maximum(mean_square, SMALLEST_RMS**2))


def averaged(
    averages: tuple[Float[Array, "*s"], ...],
    momenta: Momenta,
    new: Float[Array, "*s"],
) -> tuple[Float[Array, "*s"], ...]:
    """Exponential averages with one more entry."""
    return tuple(b * m + (1.0 - b) * new for m, b in zip(averages, momenta, strict=True))
