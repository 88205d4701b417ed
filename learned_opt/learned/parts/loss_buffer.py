"""What VeLO and Celo remember of the losses of a run, and what they read of it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_opt.base import Horizon
from learned_opt.learned.parts.losses import one_number

SCALES = 10
LARGEST_LOSS = 1e9
NOT_YET = 999999999999.0  # for a lowest mean, before there is one


class LossBuffer(NamedTuple):
    """Averages of the loss at ten timescales, from 10 steps to the length of the run."""

    decays: Float[Array, "10"]
    means: Float[Array, "10"]  # not corrected for their start at 0
    lowest: Float[Array, "10"]  # of each mean so far, corrected

    @staticmethod
    def start(num_steps: Horizon) -> "LossBuffer":
        """num_steps: the longest timescale."""
        # Where the loss stands still the features hang on the last bit of a decay, which XLA rounds
        # otherwise for a length that is constant when it compiles.
        longest = jax.lax.optimization_barrier(jnp.asarray(num_steps, jnp.float32))
        scales = jnp.logspace(1.0, jnp.log10(longest), SCALES)
        decays = jnp.exp(-1.0 / scales)
        return LossBuffer(decays, jnp.zeros(SCALES), jnp.full(SCALES, NOT_YET, jnp.float32))

    def step(self, loss: Float[Array, ""], before: Int[Array, ""]) -> "LossBuffer":
        """With the loss of one more step in it; before: losses that it holds.

        A loss counts as at most twice the size of the largest mean, one that is not finite as 1e9.
        """
        left = 1.0 - self.decays ** (before + 1)
        loss = jnp.where(jnp.isfinite(loss), loss, LARGEST_LOSS)
        largest = jnp.where(before == 0, loss, (self.means / left).max())
        loss = jnp.minimum(2.0 * jnp.abs(largest), loss)
        means = self.means * self.decays + loss * (1.0 - self.decays)
        return LossBuffer(self.decays, means, jnp.minimum(self.lowest, means / left))

    def features(self, held: Int[Array, ""]) -> Float[Array, "9"]:
        """How far each mean is from its lowest towards the next slower one, less 1, within +-1.

        0 at the first two steps. held: losses that the buffer holds, at least 1.
        """
        means = self.means / (1.0 - self.decays**held)
        lowest = self.lowest[:-1]
        found = (means[:-1] - lowest) / jnp.maximum(1e-8, means[1:] - lowest) - 1.0
        return jnp.where(held <= 2, 0.0, jnp.clip(found, -1.0, 1.0))


def losses_with(
    held: Int[Array, ""], losses: LossBuffer, value: Any
) -> tuple[Int[Array, ""], LossBuffer]:
    """The losses with one more, unless that is None or not finite."""
    if value is None:
        return held, losses
    value = one_number("value", value)
    known = jnp.isfinite(value)
    stepped = held + 1, losses.step(value, held)
    return jax.tree.map(lambda new, old: jnp.where(known, new, old), stepped, (held, losses))


def needed_loss(rule: str, extra: dict[str, Any]) -> Float[Array, ""]:
    """The loss among an update's extra arguments; raises ValueError in the rule's name."""
    if extra.get("value") is None:
        raise ValueError(
            f"value: {rule} reads the training loss, pass it: update(grads, state, params, "
            "value=loss)"
        )
    return one_number("value", extra["value"])
