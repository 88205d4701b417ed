"""Celo's schedule: one learned multiplier of all steps, out of the time and the losses."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learned_opt.base import Horizon
from learned_opt.learned.parts.controller import Recurrent, control, init_controller
from learned_opt.learned.parts.features import FRACTIONS, fraction_features
from learned_opt.learned.parts.loss_buffer import SCALES, LossBuffer

INPUTS = len(FRACTIONS) + SCALES - 1
MULTIPLIER = 0.1


class Schedule(NamedTuple):
    """What a run's schedule remembers.

    The published code keeps a copy for every tensor; they read the same, and so stay the same.
    """

    losses: LossBuffer
    recurrent: Recurrent

    @staticmethod
    def start(weights: dict[str, Any], horizon: Horizon) -> "Schedule":
        return Schedule(LossBuffer.start(horizon), Recurrent.start(weights, 1))

    def step(
        self,
        weights: dict[str, Any],
        loss: Float[Array, ""],
        count: Int[Array, ""],
        horizon: Horizon,
    ) -> tuple[Float[Array, ""], "Schedule"]:
        """The multiplier of this step, 0.1 exp of the LSTM's output; count: updates before it."""
        losses = self.losses.step(loss, count)
        x = jnp.concatenate([fraction_features(count, horizon), losses.features(count + 1)])
        logarithm, recurrent = control(weights, x[:, None], self.recurrent)
        return MULTIPLIER * jnp.exp(logarithm[0]), Schedule(losses, recurrent)


def init_scheduler(key: PRNGKeyArray, hidden: int, controls: int = 0) -> dict[str, Any]:
    """Weights of a schedule that multiplies by 1 until it is trained; controls: as published.

    So a rule beside it can be trained first, as if there were no schedule.
    """
    weights = init_controller(key, INPUTS, hidden, controls)
    silent = {"w": jnp.zeros((hidden, 1)), "b": jnp.full(1, -math.log(MULTIPLIER), jnp.float32)}
    return weights | {"step_size": silent}
