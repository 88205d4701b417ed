"""What the critic reads beside the policy's observation: all that only training has."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_opt.controller.actions import Table, Values, relative, start_values
from learned_opt.controller.history import END_WEIGHTS, History, cumulative, remember
from meta_train.learners.ppo.reward import Curve, fit_curve, log_progress, reward

LARGEST_PROGRESS = 16.0  # of tau / T
LARGEST_LOG = 20.0
HISTORIES = 2  # the progress and the reward if the run stopped now


class Baseline(NamedTuple):
    """Runs of the baseline on one task; with a leading axis, on every task of a bucket."""

    losses: Float[Array, "*samples points"]  # median over the runs
    finals: Float[Array, "*samples seeds"]  # the last loss of every run


class Bar(NamedTuple):
    """What a run is measured against."""

    curve: Curve
    rewards: Float[Array, "*_ 3"]  # least to best: of the baseline's own runs min, median, max
    known: Float[Array, "*_ task"]  # numbers that describe the task


def raise_bar(baseline: Baseline, pauses: int, steps: int, cap: float) -> Bar:
    """The bar that one task's baseline sets for runs of `pauses` times `steps` updates."""
    curve = fit_curve(baseline.losses, steps)
    rewards = jax.vmap(lambda loss: reward(curve, loss, cap))(baseline.finals)
    spread = jnp.stack([jnp.min(rewards), jnp.median(rewards), jnp.max(rewards)])
    ends = jnp.stack([baseline.losses[0], baseline.losses[-1]])
    known = [_log(ends), jnp.tanh(jnp.log(-curve.exponent)[None] / 10.0)]
    sizes = jnp.log(jnp.array([pauses, steps], jnp.float32))
    return Bar(curve, spread, jnp.concatenate([*known, sizes]))


def privileged(
    bar: Bar,
    table: Table,
    start: Values,
    train_loss: Float[Array, ""],
    eval_loss: Float[Array, ""],
    history: History,
    cap: float,
) -> tuple[History, Float[Array, " features"]]:
    """(history, inputs) at a pause.

    start: the hyperparameters that the run began with. history: of the progress and the reward that
    the run would get now.
    """
    now = reward(bar.curve, eval_loss, cap)
    progress = jnp.exp(jnp.minimum(log_progress(bar.curve, eval_loss), jnp.log(LARGEST_PROGRESS)))
    standing = jnp.stack([jnp.where(jnp.isfinite(progress), progress, 0.0), now])
    history, place = remember(history, standing, END_WEIGHTS)
    parts = [
        relative(start, start_values(table), table),
        standing,
        cumulative(place).reshape(-1),
        _log(jnp.stack([train_loss, eval_loss])),
        bar.rewards,
        bar.known,
    ]
    return history, jnp.concatenate(parts)


def features(table: Table) -> int:
    """How many inputs `privileged` gives."""
    ends, sizes, exponent, losses, spread = 2, 2, 1, 2, 3
    standing = HISTORIES * (1 + len(END_WEIGHTS))
    return len(table) + standing + losses + spread + ends + sizes + exponent


def fresh_history() -> History:
    return History.start(HISTORIES, END_WEIGHTS)


def _log(losses: Float[Array, " n"]) -> Float[Array, " n"]:
    """0 for what is not finite."""
    found = jnp.log(jnp.maximum(losses, 1e-8))
    return jnp.where(jnp.isfinite(losses), jnp.clip(found, -LARGEST_LOG, LARGEST_LOG), 0.0)
