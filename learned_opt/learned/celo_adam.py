"""Celo-Adam (2501.12670): Celo's learned schedule on Adam, where Celo's own rule is unstable."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learned_opt.base import Horizon, Params, Theta
from learned_opt.checks import check_above_zero, check_at_least_one
from learned_opt.columns import Columns
from learned_opt.learned.parts.features import clip_gradient
from learned_opt.learned.parts.loss_buffer import needed_loss
from learned_opt.learned.parts.scheduler import Schedule, init_scheduler

B1, B2 = 0.9, 0.999


class CeloAdamState(NamedTuple):
    """float32 whatever the parameters are; N scalars."""

    count: Int[Array, ""]  # updates made so far
    schedule: Schedule
    mu: Float[Array, " n"]
    nu: Float[Array, " n"]


@dataclass(frozen=True)
class CeloAdam:
    """The rule's static choices; 36,865 weights as published, all of the schedule.

    hidden: units of the schedule's LSTM. step_mult: Adam's learning rate is step_mult * schedule; a
    fresh schedule is 1. A learning rate given to `opt` takes the place of step_mult.
    """

    needs_num_steps: ClassVar[bool] = True

    hidden: int = 64
    step_mult: float = 0.001

    def __post_init__(self) -> None:
        check_at_least_one(self, "hidden")
        check_above_zero(self, "step_mult")

    def init(self, key: PRNGKeyArray) -> Theta:
        """Fresh weights, as haiku draws them, of a schedule that is 1."""
        return init_scheduler(key, self.hidden)

    def opt(
        self,
        theta: Theta,
        horizon: Horizon,
        key: PRNGKeyArray | None = None,
        learning_rate: float | Array | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        """The rule with weights `theta`; `update` needs value=, the training loss; no key."""
        del key
        rate = self.step_mult if learning_rate is None else learning_rate

        def init(params: Params) -> CeloAdamState:
            total = Columns.of(params).total
            return CeloAdamState(
                jnp.zeros((), jnp.int32),
                Schedule.start(theta, horizon),
                jnp.zeros(total),
                jnp.zeros(total),
            )

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
            if params is None:
                raise ValueError("params: celo_adam needs their shapes and types, pass params")
            loss = needed_loss("celo_adam", extra)
            multiplier, schedule = state.schedule.step(theta, loss, state.count, horizon)
            columns, steps = Columns.of(params), state.count + 1
            gradient = clip_gradient(columns.gather(updates, params))
            b1, b2 = jnp.float32(B1), jnp.float32(B2)  # what rounding they have cancels below
            mu = b1 * state.mu + (1.0 - b1) * gradient
            nu = b2 * state.nu + (1.0 - b2) * jnp.square(gradient)
            size = jnp.sqrt(nu / (1.0 - b2**steps) + 1e-10) + 1e-8
            moved = -rate * multiplier * (mu / (1.0 - b1**steps)) / size
            return columns.scatter(moved, params), CeloAdamState(steps, schedule, mu, nu)

        return optax.GradientTransformationExtraArgs(init, update)
