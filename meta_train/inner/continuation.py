"""A buffer of one late state per task, from which a new inner run may go on."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from tasks.names import check_probability


@dataclass(frozen=True)
class Resume:
    """Lets new inner runs go on from a state that a run before was in (ELO, 2607.06772).

    probability: of going on instead of beginning afresh; the run then gets a newly drawn horizon on
    top of the steps it has made. A state is kept when a run ends, and whenever its loss has risen
    more than ever before in that run, but none that is not finite.
    """

    probability: float = 0.8

    def __post_init__(self) -> None:
        check_probability(probability=self.probability)


class Buffer(NamedTuple):
    """What a task remembers besides the run in flight."""

    saved: Any  # Inner without a buffer: the state to go on from
    rise: Float[Array, ""]  # how far the loss stands above the lowest point it could have come from
    highest: Float[Array, ""]  # the largest `rise` of the run so far


def fresh_buffer(saved: Any) -> Buffer:
    return Buffer(saved, jnp.zeros(()), jnp.zeros(()))


def risen(buffer: Buffer, loss: Array, previous: Array) -> tuple[Array, Array]:
    """The cumulative sum of increases of the loss, never below 0, and its highest value.

    A loss that is not finite does not count.
    """
    change = loss - previous
    rise = jnp.maximum(buffer.rise + jnp.where(jnp.isfinite(change), change, 0.0), 0.0)
    return rise, jnp.maximum(rise, buffer.highest)
