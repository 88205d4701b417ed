"""What a run is worth: how many steps of a baseline its final loss stands for (2106.00958).

A baseline's learning curve is read backwards, from a loss to the number of steps that reach it. It
is anchored so that the baseline's own last level gets exactly 0, twice its speed log 2.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

FLOOR = 1e-8  # of losses whose logarithm is taken
LIMIT = 3.0  # of a reward, both ways
SHALLOWEST, STEEPEST = -0.05, -2.0  # exponents of the power law beyond the curve's end
FLAT = 1.05  # a baseline that gains less than this factor has no pace to compare with
FLAT_SCALE = 0.25  # nats of the final loss that then count as 1


class Curve(NamedTuple):
    """A baseline's evaluation losses, before the first step and after each of K pauses."""

    loss: Float[Array, "*_ points"]  # lowest so far, at least FLOOR; inf before the first finite
    time: Float[Array, " points"]  # 1 + steps made
    exponent: Float[Array, "*_"]  # of the power law that goes on from the last point


def fit_curve(losses: Float[Array, " points"], steps: int) -> Curve:
    """The curve of `losses`, of which some may not be finite; `steps` lie between two of them.

    The exponent is the least-squares slope in log-log coordinates over the second half.
    """
    finite = jnp.where(jnp.isfinite(losses), jnp.maximum(losses, FLOOR), jnp.inf)
    lowest = jnp.minimum.accumulate(finite)
    time = 1.0 + steps * jnp.arange(len(losses), dtype=losses.dtype)
    half = len(losses) // 2
    x = _log_ratio(time[half:], time[-1])
    y = _log_ratio(jnp.minimum(lowest[half:], _first(lowest)), lowest[-1])
    x, y = x - jnp.mean(x), y - jnp.mean(y)
    slope = jnp.sum(x * y) / jnp.maximum(jnp.sum(x * x), 1e-12)
    exponent = jnp.clip(slope, STEEPEST, SHALLOWEST)
    return Curve(lowest, time, jnp.where(jnp.isnan(slope), SHALLOWEST, exponent))


def log_progress(curve: Curve, loss: Float[Array, ""]) -> Float[Array, ""]:
    """log(tau / T): tau are the steps the baseline takes to `loss`, T those of its whole run.

    Interpolated in log-log coordinates between the points where the curve falls; the last level
    counts as reached at T. Beyond it the power law goes on, without limit.
    """
    loss = jnp.maximum(loss, FLOOR)
    levels, time = curve.loss, curve.time
    below = jnp.clip(jnp.sum(levels > loss), 1, len(levels) - 1)
    high, low = levels[below - 1], levels[below]
    start = time[jnp.sum(levels > high)]
    end = jnp.where(low == levels[-1], time[-1], time[below])
    share = jnp.clip(_log_ratio(high, loss) / _log_ratio(high, low), 0.0, 1.0)
    within = _log_ratio(start, time[-1]) + share * _log_ratio(end, start)
    beyond = _log_ratio(loss, levels[-1]) / curve.exponent
    found = jnp.where(loss <= levels[-1], beyond, within)
    return jnp.where(loss >= _first(levels), -jnp.log(time[-1]), found)


def reward(curve: Curve, loss: Float[Array, ""], cap: float) -> Float[Array, ""]:
    """log_progress in -3 .. min(3, log cap); -3 for a loss that is not finite.

    Where the baseline gains nothing, a quarter of a nat of the final loss counts as 1 instead.
    """
    pace = jnp.minimum(log_progress(curve, loss), jnp.log(jnp.float32(cap)))
    first, last = _first(curve.loss), curve.loss[-1]
    gain = jnp.log(last / jnp.maximum(loss, FLOOR)) / FLAT_SCALE
    found = jnp.where(first / last >= FLAT, pace, gain)
    return jnp.where(jnp.isfinite(loss), jnp.clip(found, -LIMIT, LIMIT), -LIMIT)


def _first(levels: Float[Array, " points"]) -> Float[Array, ""]:
    return levels[jnp.argmax(jnp.isfinite(levels))]


def _log_ratio(a: Array, b: Array) -> Array:
    """log(a / b), exact to rounding also where they are close, as points of a flat curve are."""
    return jnp.where(jnp.abs(a - b) < 0.5 * b, jnp.log1p((a - b) / b), jnp.log(a / b))
