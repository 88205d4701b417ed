"""Losses as numbers near zero, whatever the task's scale."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_opt.columns import tame

LARGEST_FEATURE = 5.0


def one_number(name: str, loss: Any) -> Float[Array, ""]:
    """The loss in float32. Raises ValueError, in the name of an argument, for another shape."""
    found = jnp.asarray(loss, jnp.float32)
    if found.ndim:
        raise ValueError(f"{name}: shape {found.shape} is not allowed; it must be one number")
    return found


class LossAverage(NamedTuple):
    """Averages of a loss and of its square distance from that, before bias correction."""

    mean: Float[Array, ""]
    variance: Float[Array, ""]
    count: Int[Array, ""]  # losses seen

    @staticmethod
    def zeros() -> "LossAverage":
        return LossAverage(jnp.zeros(()), jnp.zeros(()), jnp.zeros((), jnp.int32))

    def step(self, decay: float, loss: Any) -> "LossAverage":
        """With this loss in it; one that is not finite, or None, leaves it as it is."""
        if loss is None:
            return self
        loss = jnp.asarray(loss, jnp.float32)
        known, loss = jnp.isfinite(loss), tame(loss)
        mean = decay * self.mean + (1.0 - decay) * loss
        variance = decay * self.variance + (1.0 - decay) * jnp.square(loss - mean)
        stepped = LossAverage(mean, variance, self.count + 1)
        return jax.tree.map(lambda new, old: jnp.where(known, new, old), stepped, self)

    def corrected(self, decay: float) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Mean and variance without the bias towards 0; 0 before the first loss."""
        seen = jnp.maximum(self.count, 1).astype(jnp.float32)
        scale = 1.0 / (1.0 - decay**seen + 1e-8)
        return self.mean * scale, self.variance * scale

    def normalised(self, decay: float, loss: Any) -> Float[Array, ""]:
        """Standard deviations of this loss above the mean, within +-5; 0 if it is not finite."""
        if loss is None:
            return jnp.zeros(())
        loss = jnp.asarray(loss, jnp.float32)
        known, loss = jnp.isfinite(loss), tame(loss)
        mean, variance = self.corrected(decay)
        score = (loss - mean) * jax.lax.rsqrt(variance + 1e-8)
        return jnp.where(known, jnp.clip(score, -LARGEST_FEATURE, LARGEST_FEATURE), 0.0)
