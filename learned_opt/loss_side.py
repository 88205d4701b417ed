"""What is done to the losses of a batch before their gradient is taken."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from learned_opt.base import Params

Losses = Float[Array, " examples"]


def soft_median(losses: Losses, temperature: float = 0.05) -> Float[Array, ""]:
    """A mean in which the examples near the median weigh most.

    Example i of n, in order from 0, weighs softmax(-|i - (n - 1) / 2| / (temperature n)); weights
    have no gradient. temperature: above 0; towards 0 it is the median, large it is the mean. Losses
    that are scaled or shifted do so to the result. The gradient goes to a few examples, so use a
    larger batch.
    """
    if not temperature > 0:
        raise ValueError(f"temperature: {temperature} is not allowed; it must be above 0")
    n = losses.size
    distance = jnp.abs(jnp.arange(n) - (n - 1) / 2)
    return jnp.vdot(jax.nn.softmax(-distance / (temperature * n)), jnp.sort(losses))


def trimmed_mean(losses: Losses, fraction: float = 0.1) -> Float[Array, ""]:
    """The mean without the floor(fraction n) smallest and as many largest; fraction in [0, 0.5)."""
    if not 0 <= fraction < 0.5:
        raise ValueError(f"fraction: {fraction} is not allowed; it must be in [0, 0.5)")
    cut = int(fraction * losses.size)
    return jnp.mean(jnp.sort(losses)[cut : losses.size - cut])


def top_mean(losses: Losses, fraction: float = 0.25) -> Float[Array, ""]:
    """The mean of the ceil(fraction n) largest; fraction in (0, 1]."""
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction: {fraction} is not allowed; it must be in (0, 1]")
    return jnp.mean(jax.lax.top_k(losses, -int(-fraction * losses.size // 1))[0])


class GradTailState(NamedTuple):
    count: Int[Array, ""]  # batches seen
    average: Params  # float32 moving average of the batch gradient


@dataclass(frozen=True)
class GradTail:
    """Weighs examples up whose gradient is orthogonal to the usual one: the long tail of the data.

    An example weighs 1 + (most - 1) exp(-c^2 / (2 width^2)), where c is the cosine of its gradient
    with the average of batch gradients before; then all are brought to mean 1. Agreeing and
    opposing examples (hard ones, wrong labels) are not weighed up. The idea is arXiv:2201.05938's,
    whose weight function may be another.

    most: at least 1. width: of what counts as orthogonal, above 0. decay: of the average, in
    [0, 1). burn_in: batches, at least 1, in which all examples weigh 1.
    """

    most: float = 5.0
    width: float = 0.1
    decay: float = 0.99
    burn_in: int = 100

    def __post_init__(self) -> None:
        for name, allowed, good in (
            ("most", "at least 1", self.most >= 1),
            ("width", "above 0", self.width > 0),
            ("decay", "in [0, 1)", 0 <= self.decay < 1),
            ("burn_in", "at least 1", self.burn_in >= 1),
        ):
            if not good:
                raise ValueError(
                    f"{name}: {getattr(self, name)} is not allowed; it must be {allowed}"
                )

    def init(self, params: Params) -> GradTailState:
        """params: what the gradients are taken for; the last layer is enough."""
        average = jax.tree.map(lambda p: jnp.zeros(jnp.shape(p), jnp.float32), params)
        return GradTailState(jnp.zeros((), jnp.int32), average)

    def weigh(self, gradients: Params, state: GradTailState) -> tuple[Losses, GradTailState]:
        """The weights of the examples of a batch.

        gradients: of each example's loss, as jax.vmap(jax.grad(...)) gives them, examples first;
        entries that are not finite count as 0, and an example without a gradient weighs 1.
        """
        gradients = jax.tree.map(
            lambda g: jnp.where(jnp.isfinite(g), g, 0.0).astype(jnp.float32), gradients
        )
        cosine, known = jax.vmap(_cosine, (0, None))(gradients, state.average)
        weights = 1.0 + (self.most - 1.0) * jnp.exp(-jnp.square(cosine / self.width) / 2.0)
        known = known & (state.count >= self.burn_in)
        weights = jnp.where(known, weights, 1.0)
        batch = jax.tree.map(lambda g: jnp.mean(g, 0), gradients)
        average = optax.tree.update_moment(batch, state.average, self.decay, 1)
        weights = jax.lax.stop_gradient(weights / jnp.mean(weights))
        return weights, GradTailState(state.count + 1, average)


def _cosine(a: Params, b: Params) -> tuple[Array, Array]:
    """The cosine, and whether there is one: neither tree is zero or too large."""
    norms = optax.tree.norm(a) * optax.tree.norm(b)
    known = (norms > 0) & jnp.isfinite(norms)
    return jnp.asarray(optax.tree.vdot(a, b)) / jnp.where(known, norms, 1.0), known
