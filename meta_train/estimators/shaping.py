"""What the two losses of an antithetic pair count for against each other."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from learned_opt.naming import check_name
from meta_train.parallel import AXIS, TASKS

Shaping = Literal["difference", "sign", "ranks"]


def check_shaping(shaping: Shaping, clip_difference: float | None) -> None:
    check_name("estimator.shaping", shaping, get_args(Shaping))
    if clip_difference is None:
        return
    if shaping != "difference":
        raise ValueError(
            f"estimator.clip_difference: {clip_difference} has no use with shaping {shaping!r}, "
            "which bounds what a pair counts for; leave it out"
        )
    if not clip_difference > 0.0:
        raise ValueError(f"estimator.clip_difference: {clip_difference} must be above 0")


def contrast(
    shaping: Shaping,
    clip_difference: float | None,
    value: Float[Array, "2 length"],
    counts: Bool[Array, " length"],
) -> Float[Array, ""]:
    """The first half's mean loss less the second's, over the steps that count; 0 where none do.

    shaping: "difference", cut to +-clip_difference; "sign" of it (as VeLO does); "ranks": of
    both among the losses of all pairs of the family, from -1/2 for the lowest to 1/2.
    """
    number = jnp.maximum(jnp.sum(counts), 1)
    if shaping == "ranks":
        losses = jnp.sum(jnp.where(counts, value, 0.0), axis=-1) / number
        ranks = _centered_ranks(losses, jnp.any(counts))
        return ranks[0] - ranks[1]
    difference = jnp.sum(jnp.where(counts, value[0] - value[1], 0.0)) / number
    if shaping == "sign":
        return jnp.sign(difference)
    if clip_difference is not None:
        return jnp.clip(difference, -clip_difference, clip_difference)
    return difference


def _centered_ranks(losses: Float[Array, "2"], exists: Bool[Array, ""]) -> Float[Array, "2"]:
    """Ranks among the family's losses that exist, equal for ties, 0 for those that do not."""
    gather = lambda x: jax.lax.all_gather(jax.lax.all_gather(x, TASKS), AXIS).ravel()
    others, real = gather(losses), gather(jnp.broadcast_to(exists, (2,)))
    below = jnp.sum(real & (others < losses[:, None]), axis=1)
    equal = jnp.sum(real & (others == losses[:, None]), axis=1) - 1
    ranks = (below + 0.5 * equal) / jnp.maximum(jnp.sum(real) - 1, 1) - 0.5
    return jnp.where(exists, ranks, 0.0)
