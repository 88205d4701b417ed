"""Celo (2501.12670): a per-parameter network, and a learned schedule of its step size.

VeLO without its bank: one network for all tensors, and an LSTM that reads nothing but the time and
the losses. The two are trained one after the other, first `network`, then `scheduler`
(configs/celo.yaml); a fresh schedule multiplies by 1. Trained on runs of 100 to 2,000 steps.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learned_opt.base import Horizon, Params, Theta
from learned_opt.checks import check_above_zero, check_at_least_one
from learned_opt.learned.parts.loss_buffer import needed_loss
from learned_opt.learned.parts.memory import Memory
from learned_opt.learned.parts.moment_network import (
    fresh_memories,
    init_moment_network,
    moment_step,
    param_scale,
)
from learned_opt.learned.parts.scheduler import Schedule, init_scheduler
from learned_opt.learned.parts.stacks import Stacks


class CeloState(NamedTuple):
    """float32 whatever the parameters are."""

    count: Int[Array, ""]  # updates made so far
    schedule: Schedule
    memories: tuple[Memory, ...]  # one for each shape, in order of first appearance


@dataclass(frozen=True)
class Celo:
    """The rule's static choices; 37,089 weights as published.

    hidden: units of the schedule's LSTM. units: of each of the network's hidden layers. exp_mult,
    step_mult: a parameter moves by -step_mult * schedule * RMS(tensor) * direction *
    exp(exp_mult * magnitude); a learning rate given to `opt` takes the place of step_mult.
    """

    needs_num_steps: ClassVar[bool] = True

    hidden: int = 64
    units: int = 4
    exp_mult: float = 0.001
    step_mult: float = 0.001

    def __post_init__(self) -> None:
        check_at_least_one(self, "hidden", "units")
        check_above_zero(self, "exp_mult", "step_mult")

    def init(self, key: PRNGKeyArray) -> Theta:
        """Fresh weights, as haiku draws them, and a schedule that is 1.

        The scheduler's one control chooses among one network: published, and read by nothing.
        """
        scheduler_key, network_key = jax.random.split(key)
        return {
            "scheduler": init_scheduler(scheduler_key, self.hidden, controls=1),
            "network": init_moment_network(network_key, self.units),
        }

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

        def init(params: Params) -> CeloState:
            memories = fresh_memories(Stacks.of(params))
            schedule = Schedule.start(theta["scheduler"], horizon)
            return CeloState(jnp.zeros((), jnp.int32), schedule, memories)

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
            if params is None:
                raise ValueError("params: celo reads them, pass params")
            loss = needed_loss("celo", extra)
            multiplier, schedule = state.schedule.step(
                theta["scheduler"], loss, state.count, horizon
            )
            stacks = Stacks.of(params)
            moved, memories = [], []
            for memory, *seen in zip(
                state.memories, stacks.gather(updates), stacks.gather(params), strict=True
            ):
                step, memory = jax.vmap(partial(self._step, theta["network"]))(memory, *seen)
                moved.append(-rate * multiplier * step)
                memories.append(memory)
            state = CeloState(state.count + 1, schedule, tuple(memories))
            return stacks.scatter(moved, params), state

        return optax.GradientTransformationExtraArgs(init, update)

    def _step(
        self,
        network: dict[str, Array],
        memory: Memory,
        gradient: Float[Array, "*s"],
        param: Float[Array, "*s"],
    ) -> tuple[Float[Array, "*s"], Memory]:
        """The change of one tensor, less rate, schedule and sign, and its new memory."""
        step, memory = moment_step(network, memory, gradient, param, self.exp_mult)
        return param_scale(param) * step, memory
