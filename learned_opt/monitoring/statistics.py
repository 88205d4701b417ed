"""The distribution of one tensor's entries in numbers."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

BINS = 64
LOWEST, HIGHEST = -12, 4  # of log10 |x|
EDGES = np.linspace(LOWEST, HIGHEST, BINS + 1)  # of the bins of log10 |x|
QUANTILES = (0.001, 0.01, 0.5, 0.99, 0.999)
SMALL = 1e-3  # of the root mean square
TAIL = 0.01  # the share of the largest entries that the Hill index looks at
SORTED = 2**14  # entries at most: sorting is what takes time


class Statistics(NamedTuple):
    """Of the entries of a tensor; one that is not finite counts as 0. All are finite.

    Quantiles and the Hill index of a tensor of more than SORTED entries are those of a regular
    sample of about as many; all else is exact.
    """

    negative: Int[Array, " bins"]  # entries below 0 by log10 |x|, see EDGES; the rest at the ends
    positive: Int[Array, " bins"]  # likewise above 0
    zeros: Float[Array, ""]  # share of exact zeros, those that are not finite among them
    not_finite: Float[Array, ""]  # share of entries
    rms: Float[Array, ""]
    peak: Float[Array, ""]  # max |x| / rms
    mean: Float[Array, ""]
    skewness: Float[Array, ""]  # 0 where all are equal, as are the next two
    kurtosis: Float[Array, ""]  # excess over a normal distribution's
    hill: Float[Array, ""]  # Hill's index of the largest 1 % of |x|: 1 / exponent, normal 0.13
    small: Float[Array, ""]  # share of |x| < 1e-3 rms
    quantiles: Float[Array, " levels"]  # at QUANTILES


def statistics(values: ArrayLike, size: int | Int[Array, ""] | None = None) -> Statistics:
    """In float32 whatever the input is; it must hold at least one entry and be real.

    size: how many of the entries, in order, belong to the tensor; the rest is padding.
    """
    x = jnp.asarray(values, jnp.float32).ravel()
    total = jnp.asarray(x.size if size is None else size, jnp.int32)
    own = jnp.arange(x.size) < total
    finite = jnp.isfinite(x)
    x = jnp.where(own & finite, x, 0.0)
    share = lambda such: jnp.sum((own & such).astype(jnp.float32)) / total
    mean = lambda terms: jnp.sum(terms) / total
    # Moments of x / max |x|: squares neither overflow nor vanish.
    largest = jnp.max(jnp.abs(x))
    scale = jnp.where(largest > 0, largest, 1.0)
    y = x / scale
    rms = jnp.sqrt(mean(jnp.square(y)))
    centred = jnp.where(own, y - mean(y), 0.0)
    deviation = jnp.sqrt(mean(jnp.square(centred)))
    varies = deviation > 1e-6 * rms  # below that it is rounding
    z = jnp.where(varies, centred / jnp.where(varies, deviation, 1.0), 0.0)
    counts = _counts(x)
    ordered, sampled = _sample(x, total)
    return Statistics(
        negative=counts[:BINS],
        positive=counts[BINS + 1 :],
        zeros=share(x == 0),
        not_finite=share(~finite),
        rms=scale * rms,
        peak=jnp.where(rms > 0, 1.0 / jnp.where(rms > 0, rms, 1.0), 0.0),
        mean=scale * mean(y),
        skewness=mean(z**3),
        kurtosis=jnp.where(varies, mean(z**4) - 3.0, 0.0),
        hill=_hill(ordered, sampled),
        small=share(jnp.abs(y) < SMALL * rms),
        quantiles=_quantiles(ordered, sampled),
    )


def _counts(x: Float[Array, " n"]) -> Int[Array, " bins"]:
    """Of entries below 0 by magnitude, of zeros, and of entries above 0 by magnitude."""
    logs = jnp.log10(jnp.where(x == 0, 1.0, jnp.abs(x)))
    place = jnp.floor((logs - LOWEST) * (BINS / (HIGHEST - LOWEST))).astype(jnp.int32)
    place = jnp.clip(place, 0, BINS - 1)
    place = jnp.where(x == 0, BINS, jnp.where(x < 0, place, BINS + 1 + place))
    return jnp.zeros(2 * BINS + 1, jnp.int32).at[place].add(1)


def _sample(
    x: Float[Array, " n"], total: Int[Array, ""]
) -> tuple[Float[Array, " m"], Int[Array, ""]]:
    """At most SORTED entries in order, and how many of them, the first ones, are the tensor's."""
    # An odd stride does not stay in some columns of a matrix.
    stride = -(-x.size // SORTED) | 1
    ordered = jnp.sort(jnp.where(jnp.arange(x.size) < total, x, jnp.inf)[::stride])
    return ordered, -(-total // stride)


def _quantiles(ordered: Float[Array, " m"], size: Int[Array, ""]) -> Float[Array, " levels"]:
    """Between the two nearest entries, linearly."""
    place = jnp.asarray(QUANTILES) * (size - 1)
    below = jnp.floor(place).astype(jnp.int32)
    part = place - below
    return (1.0 - part) * ordered[below] + part * ordered[jnp.minimum(below + 1, size - 1)]


def _hill(ordered: Float[Array, " m"], size: Int[Array, ""]) -> Float[Array, ""]:
    """Mean of log(|x| / threshold) above the threshold, the largest |x| that is not in the tail."""
    falling = -jnp.sort(-jnp.where(jnp.isfinite(ordered), jnp.abs(ordered), 0.0))
    top = jnp.maximum(1, jnp.round(TAIL * size).astype(jnp.int32))
    threshold = falling[jnp.minimum(top, size - 1)]
    tail = (jnp.arange(ordered.size) < top) & (threshold > 0)
    logs = jnp.log(jnp.where(tail, falling / jnp.where(threshold > 0, threshold, 1.0), 1.0))
    return jnp.sum(logs) / top
