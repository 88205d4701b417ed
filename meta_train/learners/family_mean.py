"""From the gradients of many tasks to one: the mean of a family, how noisy it is, its share."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from learned_opt.base import Theta
from meta_train.parallel import AXIS

FamilyScale = Literal["none", "unit_norm", "running_rms"]
DECAY = 0.98  # of the running mean square: about fifty meta-steps


class FamilyGradient(NamedTuple):
    """The mean over the tasks of one family on all shards whose own gradient is finite."""

    mean: Theta  # zero where the norm overflows: such a family sits this meta-step out
    norm: Float[Array, ""]
    usable: Bool[Array, ""]  # whether there is a gradient and its norm is finite
    accepted: Float[Array, ""]  # how many tasks it is the mean of
    noise: Float[Array, ""]  # expected squared distance of the mean from its expectation

    @property
    def signal_to_noise(self) -> Float[Array, ""]:
        """|mean|^2 / noise: about 1 where there is nothing but noise, NaN with one task."""
        return jnp.square(self.norm) / self.noise


def family_gradient(gradients: Theta) -> FamilyGradient:
    """The mean of gradients with a leading axis of tasks, joined over the shards of AXIS."""
    leaves = jax.tree.leaves(gradients)
    finite = jnp.stack(
        [jnp.all(jnp.isfinite(x), axis=tuple(range(1, x.ndim))) for x in leaves]
    ).all(axis=0)
    accepted = jax.lax.psum(jnp.sum(finite), AXIS).astype(jnp.float32)

    def kept(x: Array) -> Array:
        return jnp.where(finite.reshape(-1, *(1,) * (x.ndim - 1)), x, 0.0)

    def mean_of(x: Array) -> Array:
        return jax.lax.psum(jnp.sum(kept(x) / jnp.maximum(accepted, 1.0), axis=0), AXIS)

    mean = jax.tree.map(mean_of, gradients)
    apart = jax.tree.map(lambda x, m: kept(x - m), gradients, mean)
    spread = jax.lax.psum(optax.tree.norm(apart, squared=True), AXIS)
    norm = optax.tree.norm(mean)
    usable = jnp.isfinite(norm) & (accepted > 0.0)
    return FamilyGradient(
        mean=jax.tree.map(lambda m: jnp.where(usable, m, 0.0), mean),
        norm=norm,
        usable=usable,
        accepted=accepted,
        noise=spread / (accepted * (accepted - 1.0)),
    )


def family_factor(
    scale: FamilyScale, gradient: FamilyGradient, rms: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """What a family's mean is multiplied by, so that none owns the direction, and its new record.

    "unit_norm" divides by the norm, "running_rms" by the running root mean square of the norm, so
    that a family counts less where its own gradient is small. rms: that record, 0 before the first
    usable gradient.
    """
    top = jnp.maximum(jnp.maximum(rms, gradient.norm), 1e-30)  # squares of it could overflow
    parts = DECAY * jnp.square(rms / top) + (1.0 - DECAY) * jnp.square(gradient.norm / top)
    new = jnp.where(rms > 0.0, top * jnp.sqrt(parts), gradient.norm)
    rms = jnp.where(gradient.usable, new, rms)
    if scale == "none":
        return jnp.ones(()), rms
    size = gradient.norm if scale == "unit_norm" else rms
    return 1.0 / jnp.where(gradient.usable, jnp.maximum(size, 1e-12), 1.0), rms


def mean_metric(values: Float[Array, " tasks"]) -> Float[Array, ""]:
    """The mean over the tasks of all shards that have something to say, which are not NaN."""
    known = ~jnp.isnan(values)
    total = jax.lax.psum(jnp.sum(jnp.where(known, values, 0.0)), AXIS)
    return total / jax.lax.psum(jnp.sum(known), AXIS)
