"""VeLO (Metz et al. 2022, 2211.09760): an LSTM for every tensor writes its per-parameter network.

Once for each tensor and step the LSTM weighs a bank of small networks; their sum then moves every
scalar of the tensor. The rule reads how much of the run is left and how its losses have gone, so it
needs the length of the run, and it was trained on runs of up to 200,000 steps: for one of more than
150,000, its authors average the gradients of so many steps that fewer updates remain
(`optax.MultiSteps`, with num_steps the number of updates).
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
from learned_opt.learned.parts.cells import affine
from learned_opt.learned.parts.controller import Recurrent, control, init_controller
from learned_opt.learned.parts.features import fraction_features
from learned_opt.learned.parts.loss_buffer import LossBuffer, needed_loss
from learned_opt.learned.parts.memory import Memory
from learned_opt.learned.parts.moment_network import (
    fresh_memories,
    init_moment_network,
    moment_step,
    param_scale,
)
from learned_opt.learned.parts.stacks import Stacks

INPUTS = 30
LARGEST_RANK = 4


class VeloState(NamedTuple):
    """float32 whatever the parameters are."""

    count: Int[Array, ""]  # updates made so far
    losses: LossBuffer
    recurrent: Recurrent  # tensors in the order of the stacks
    memories: tuple[Memory, ...]  # one for each shape, in order of first appearance


@dataclass(frozen=True)
class Velo:
    """The rule's static choices; 2,320,385 weights as published.

    hidden: units of the LSTM. banks: networks it weighs. bank_mult: what their mean is multiplied
    by. units: of each of a network's hidden layers. exp_mult, step_mult: a parameter moves by
    -step_mult * multiplier * direction * exp(exp_mult * magnitude); a learning rate given to `opt`
    takes the place of step_mult. param_scale_mult: also by the root mean square of its tensor, at
    most clip_param_scale_amount * sqrt(its scalars). validation_flag: an input more of the LSTM,
    which says that the validation loss counts. use_bugged_loss_features: all timescales of the loss
    are 10 steps, use_bugged_next_lstm_state: the LSTM stays in its first state, as old published
    weights expect.
    """

    needs_num_steps: ClassVar[bool] = True

    hidden: int = 512
    banks: int = 256
    bank_mult: float = 100.0
    units: int = 4
    exp_mult: float = 0.001
    step_mult: float = 0.001
    param_scale_mult: bool = True
    clip_param_scale_amount: float | None = None
    validation_flag: bool | None = None
    use_bugged_loss_features: bool = False
    use_bugged_next_lstm_state: bool = False

    def __post_init__(self) -> None:
        check_at_least_one(self, "hidden", "banks", "units")
        check_above_zero(self, "bank_mult", "exp_mult", "step_mult", "clip_param_scale_amount")

    def init(self, key: PRNGKeyArray) -> Theta:
        """Fresh weights, as haiku draws them."""
        lstm_key, bank_key = jax.random.split(key)
        inputs = INPUTS + (self.validation_flag is not None)
        draw = partial(init_moment_network, units=self.units)
        return {
            "controller": init_controller(lstm_key, inputs, self.hidden, self.banks),
            "bank": jax.vmap(draw)(jax.random.split(bank_key, self.banks)),
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

        def init(params: Params) -> VeloState:
            stacks = Stacks.of(params)
            return VeloState(
                jnp.zeros((), jnp.int32),
                LossBuffer.start(10 if self.use_bugged_loss_features else horizon),
                Recurrent.start(theta["controller"], sum(stacks.counts)),
                fresh_memories(stacks),
            )

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
            if params is None:
                raise ValueError("params: velo reads them, pass params")
            loss = needed_loss("velo", extra)
            stacks = Stacks.of(params)
            gradients, tensors = stacks.gather(updates), stacks.gather(params)
            losses = state.losses.step(loss, state.count)
            said = [fraction_features(state.count, horizon), losses.features(state.count + 1)]
            x = self._inputs(jnp.concatenate(said), stacks, tensors, state.memories)
            multiplier, recurrent = control(theta["controller"], x, state.recurrent)
            networks = self._networks(theta, recurrent.hidden)
            moved, memories, start = [], [], 0
            for memory, gradient, param in zip(state.memories, gradients, tensors, strict=True):
                of_stack = slice(start, start + len(param))
                network = {name: leaf[of_stack] for name, leaf in networks.items()}
                step, memory = jax.vmap(self._step)(
                    network, multiplier[of_stack], memory, gradient, param
                )
                moved.append(-rate * step)
                memories.append(memory)
                start += len(param)
            if self.use_bugged_next_lstm_state:
                recurrent = state.recurrent
            state = VeloState(state.count + 1, losses, recurrent, tuple(memories))
            return stacks.scatter(moved, params), state

        return optax.GradientTransformationExtraArgs(init, update)

    def _networks(self, theta: Theta, hidden: Float[Array, "k t"]) -> dict[str, Array]:
        """The weights [tensors, ...] of every tensor's own network: a weighted mean of the bank."""
        shares = affine(theta["controller"]["controls"], hidden) * (self.bank_mult / self.banks)
        return jax.tree.map(lambda leaf: jnp.tensordot(shares.T, leaf, 1), theta["bank"])

    def _step(
        self,
        network: dict[str, Array],
        multiplier: Float[Array, ""],
        memory: Memory,
        gradient: Float[Array, "*s"],
        param: Float[Array, "*s"],
    ) -> tuple[Float[Array, "*s"], Memory]:
        """The change of one tensor, less the rate and the sign, and its new memory."""
        step, memory = moment_step(network, memory, gradient, param, self.exp_mult)
        if self.param_scale_mult:
            scale = param_scale(param)
            if self.clip_param_scale_amount is not None:
                scale = jnp.minimum(scale, self.clip_param_scale_amount * param.size**0.5)
            step = scale * step
        return multiplier * step, memory

    def _inputs(
        self,
        said: Float[Array, " 18"],
        stacks: Stacks,
        tensors: tuple[Array, ...],
        memories: tuple[Memory, ...],
    ) -> Float[Array, "i t"]:
        """What the LSTM reads: time and losses, the same for all, then each tensor's own."""
        columns = [jnp.zeros((INPUTS - len(said), 0))]
        for shape, param, memory in zip(stacks.shapes, tensors, memories, strict=True):
            axes = sum(size > 1 for size in shape)
            rank = jnp.broadcast_to(jax.nn.one_hot(axes, LARGEST_RANK + 1), (len(param), 5)).T
            size, momentum, square = jax.vmap(_moments, out_axes=1)(param, memory)
            columns.append(jnp.concatenate([size, rank, momentum, square]))
        own = jnp.concatenate(columns, axis=1)
        flag = [] if self.validation_flag is None else [jnp.full(1, float(self.validation_flag))]
        same = [jnp.broadcast_to(x[:, None], (len(x), own.shape[1])) for x in (said, *flag)]
        return jnp.concatenate([same[0], own, *same[1:]])


def _moments(
    param: Float[Array, "*s"], memory: Memory
) -> tuple[Float[Array, "1"], Float[Array, "3"], Float[Array, "3"]]:
    """Sizes of one tensor's averages from before this step, relative to its parameters'.

    The last are the squares' distances from the mean of the momenta, not from their own: so the
    original code has it, and three channels come of it where one would.
    """
    axes = tuple(range(1, param.ndim + 1))
    relative = jax.lax.rsqrt(jnp.maximum(1e-9, jnp.mean(jnp.square(param))))
    momentum, square = memory.momentum * relative, memory.square * relative
    centre = momentum.mean(axis=axes, keepdims=True)
    return (
        _log_size(square.mean(axis=axes)),
        _log_size(jnp.square(momentum - centre).mean(axis=axes)),
        _log_size(jnp.square(square - centre).mean(axis=axes)),
    )


def _log_size(x: Float[Array, " k"]) -> Float[Array, " k"]:
    return 0.5 * jnp.clip(jnp.log(1e-8 + jnp.abs(10.0 * x)), -5.0, 5.0)


PRESETS = {
    "released": Velo(),
    "small": Velo(hidden=64, banks=32, bank_mult=1.0),  # VeLO-S of 2501.12670
}
