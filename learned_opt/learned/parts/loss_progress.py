"""How far a run has come: what VeLO's and Celo's schedulers read of time and of the loss."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_opt.base import Horizon

SCALES = 10
NUM_LOSS_FEATURES = SCALES - 1
FRACTIONS = (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)
HIGHEST_START = 999_999_999_999.0


class LossBuffer(NamedTuple):
    """Averages of the loss over 10 times, from 10 steps to the whole run, and their lowest."""

    count: Int[Array, ""]  # losses seen
    means: Float[Array, "10"]  # without bias correction
    lowest: Float[Array, "10"]  # of the corrected ones

    @staticmethod
    def empty() -> "LossBuffer":
        return LossBuffer(
            jnp.zeros((), jnp.int32), jnp.zeros(SCALES), jnp.full(SCALES, HIGHEST_START)
        )

    def step(self, loss: Float[Array, ""], horizon: Horizon) -> "LossBuffer":
        """With one more loss in it, cut at twice the largest average so far.

        horizon: the run's length, which the longest time is. A loss that is not finite is left out.
        """
        decays = _decays(horizon)
        corrected = self.means / (1.0 - decays ** (self.count + 1))
        cap = jnp.where(self.count > 0, 2.0 * jnp.max(jnp.abs(corrected)), loss)
        means = decays * self.means + (1.0 - decays) * jnp.minimum(cap, loss)
        lowest = jnp.minimum(self.lowest, means / (1.0 - decays ** (self.count + 1)))
        sound = jnp.isfinite(loss)
        return LossBuffer(
            self.count + sound,
            jnp.where(sound, means, self.means),
            jnp.where(sound, lowest, self.lowest),
        )

    def features(self, horizon: Horizon) -> Float[Array, "9"]:
        """How far each average lies below the next slower one, within +-1; 0 for the first losses.

        -1 means that the quicker average is at its lowest, 0 that the two are equal. No unit and no
        offset of the loss shows in them.
        """
        count = jnp.maximum(self.count, 1)
        corrected = self.means / (1.0 - _decays(horizon) ** count)
        quick, slow, lowest = corrected[:-1], corrected[1:], self.lowest[:-1]
        ratio = (quick - lowest) / jnp.maximum(slow - lowest, 1e-8)
        return jnp.where(self.count <= 2, 0.0, jnp.clip(ratio - 1.0, -1.0, 1.0))


def _decays(horizon: Horizon) -> Float[Array, "10"]:
    """exp(-1 / h) for h from 10 to the horizon, evenly on a logarithmic scale."""
    last = jnp.log10(jnp.asarray(horizon, jnp.float32))
    return jnp.exp(-1.0 / 10.0 ** jnp.linspace(1.0, last, SCALES))


def fraction_left(count: Int[Array, ""], horizon: Horizon) -> Float[Array, "9"]:
    """tanh(10 (t / T - c)) for nine c from 0.03 to 1.1; t, updates made, is at most 1.1 T."""
    progress = count.astype(jnp.float32) / jnp.asarray(horizon, jnp.float32)
    return jnp.tanh(10.0 * (jnp.minimum(progress, 1.1) - jnp.array(FRACTIONS)))
