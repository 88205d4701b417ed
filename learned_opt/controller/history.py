"""Where a number stands in its own history, free of units: the cumulative features."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.special import erf
from jaxtyping import Array, Float

# How strongly late samples count; every number is seen through all of them.
END_WEIGHTS = (1.25, 2.5, 5.0, 10.0, 20.0)


class History(NamedTuple):
    """Weighted mean and variance of the samples of every number so far."""

    count: Float[Array, "*batch n"]  # samples
    mean: Float[Array, "*batch n w"]
    variance: Float[Array, "*batch n w"]

    @staticmethod
    def start(numbers: int, weights: tuple[float, ...]) -> "History":
        shape = (numbers, len(weights))
        return History(jnp.zeros(numbers), jnp.zeros(shape), jnp.zeros(shape))


def remember(
    history: History, x: Float[Array, " n"], weights: tuple[float, ...]
) -> tuple[History, Float[Array, "n w"]]:
    """(history with `x`, the place of `x` in it in standard deviations).

    Sample i of t weighs (i / t)^w - ((i - 1) / t)^w, so the window of a weight w is a share of the
    run so far and not a number of samples. The place is of the sample within a history that holds
    it: 0 for the first, at most sqrt((1 - a) / a) with a the sample's own weight, and unchanged by
    x -> a x + b, a > 0. A sample that is not finite leaves its history alone and stands at 0.
    """
    known = jnp.isfinite(x)
    count = history.count + known
    w = jnp.array(weights, jnp.float32)
    own = -jnp.expm1(w * jnp.log1p(-1.0 / jnp.maximum(count, 1.0))[:, None])
    away = jnp.where(known, x, 0.0)[:, None] - history.mean
    mean = history.mean + own * away
    variance = (1.0 - own) * (history.variance + own * jnp.square(away))
    spread = variance > 1e-12 * (1.0 + jnp.square(mean))
    place = (1.0 - own) * away / jnp.sqrt(jnp.where(spread, variance, 1.0))
    place = jnp.where(spread & known[:, None], place, 0.0)
    kept = known[:, None]
    mean = jnp.where(kept, mean, history.mean)
    return History(count, mean, jnp.where(kept, variance, history.variance)), place


def cumulative(place: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """2 F - 1, with F the normal distribution's share of what lies below: in (-1, 1)."""
    return erf(place / 2.0**0.5)
