"""What a controller sees at a pause: one vector, free of units, with named slices."""

from itertools import accumulate
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_opt.controller.actions import Table, heads
from learned_opt.controller.history import History, cumulative, remember
from learned_opt.controller.statistics import LARGEST_LOG, NAMES

SMALLEST_LOSS = 1e-8
NUMBERS = len(NAMES) + 5  # with a history: statistics, the three ratios, the two losses


class Readings(NamedTuple):
    """What is measured at a pause; NaN where there is nothing to measure."""

    progress: Float[Array, ""]  # pauses made over pauses in all
    statistics: Float[Array, " 13"]  # means since the last pause
    chosen: Float[Array, " choices"]  # one-hots of the last pause's choices; zeros at the first
    update_ratio: Float[Array, ""]  # log of the way since the last pause over the norm now
    norm_ratio: Float[Array, ""]  # log of the norm now over that at the last pause
    train_loss: Float[Array, ""]
    eval_loss: Float[Array, ""]
    register_losses: Float[Array, " registers"]
    register_progress: Float[Array, " registers"]
    relative: Float[Array, " actions"]  # hyperparameters against their start


def layout(table: Table, registers: int, weights: tuple[float, ...]) -> dict[str, slice]:
    """Where every part of the observation stands; the last one's end is the length."""
    w, n = len(weights), len(NAMES)
    sizes = {
        "progress": 1,
        "statistics": n,
        "statistics_history": n * w,
        "chosen": sum(heads(table, registers)),
        "loss_ratio": 2 + w,
        "update_ratio": 1 + w,
        "norm_ratio": 1 + w,
        "train_loss": 2 + w,
        "eval_loss": 2 + w,
        "register_losses": registers,
        "register_progress": registers,
        "relative": len(table),
    }
    ends = list(accumulate(sizes.values()))
    starts = [0, *ends[:-1]]
    return {name: slice(a, b) for name, a, b in zip(sizes, starts, ends, strict=True)}


def observation(
    readings: Readings, history: History, weights: tuple[float, ...]
) -> tuple[History, Float[Array, " features"]]:
    """(history with these readings, the observation in the order of `layout`).

    Logarithms stay within 20; what is not finite counts as 0 and leaves its history alone. A loss
    that is not finite is flagged and stands at the top of its history; its size is never seen.
    """
    train, evaluated = _log(readings.train_loss), _log(readings.eval_loss)
    ratio = evaluated - train
    outer = jnp.stack([ratio, readings.update_ratio, readings.norm_ratio, train, evaluated])
    numbers = jnp.concatenate([readings.statistics, outer])
    known = jnp.isfinite(numbers)
    seen = jnp.where(known, jnp.clip(numbers, -LARGEST_LOG, LARGEST_LOG), 0.0)
    history, place = remember(history, jnp.where(known, seen, jnp.nan), weights)
    n = len(NAMES)
    shares = cumulative(place)
    saved = jnp.tanh(evaluated - _log(readings.register_losses))
    parts = [
        readings.progress[None],
        seen[:n],
        shares[:n].ravel(),
        readings.chosen,
        *(jnp.isnan(ratio)[None], jnp.tanh(seen[n, None]), shares[n]),
        *(jnp.tanh(seen[n + 1, None]), shares[n + 1]),
        *(jnp.tanh(seen[n + 2, None]), shares[n + 2]),
        *_loss_features(readings.train_loss, shares[n + 3]),
        *_loss_features(readings.eval_loss, shares[n + 4]),
        jnp.where(jnp.isfinite(saved), saved, 0.0),
        readings.register_progress,
        readings.relative,
    ]
    return history, jnp.concatenate([part.astype(jnp.float32) for part in parts])


def _log(loss: Array) -> Array:
    return jnp.log(jnp.maximum(loss, SMALLEST_LOSS))


def _loss_features(loss: Array, shares: Array) -> tuple[Array, Array, Array]:
    """Flags for NaN and for infinity, and the place in the history: its top for both."""
    flags = jnp.isnan(loss)[None], jnp.isinf(loss)[None]
    return *flags, jnp.where(jnp.isfinite(loss), shares, 1.0)
