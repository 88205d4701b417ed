"""STAR: the small network steadied by a hand-designed step and decay (Harrison et al., 2209.11208).

The network of small_fc with two outputs more: the size of a nominal step along a hand-designed
direction, and of a decay towards zero. What the network adds may be preconditioned as Adam's step.
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.base import Horizon, Theta
from learned_opt.checks import (
    check_above_zero,
    check_at_least_one,
    check_not_negative,
)
from learned_opt.learned.parts.adafactor_features import (
    TENSOR_FEATURES,
    adafactor_base,
    adafactor_features,
    fresh_memory,
    init_offsets,
    inverse_root,
    remember,
)
from learned_opt.learned.parts.features import TIMES, time_features
from learned_opt.learned.parts.memory import Memory
from learned_opt.learned.parts.perceptron import init_perceptron, perceptron
from learned_opt.learned.parts.tensorwise import tensorwise


@dataclass(frozen=True)
class Star:
    """The rule's static choices; 207 weights with hidden size 4, 2,475 with 32.

    A parameter p becomes (1 - weight_decay e^(decay_exp_mult o4)) p - step_mult o1 e^(exp_mult o2)
    - nominal_rate e^(nominal_exp_mult o3) u, where o are the outputs of a network with two layers
    of `hidden` units. u is the gradient, its slowest average, the mean of all averages, or those of
    Adam, divided by the root of the average square, as `nominal` says. With nominal_rate and
    weight_decay 0 this is small_fc. precondition: o1 is divided by that root too. steer_nominal,
    steer_decay: without them o3 counts as 1 and o4 as 0. average_magnitudes: o2, o3 and o4 are
    averaged over the tensor. A learning rate given to `opt` takes the place of step_mult and
    stretches nominal_rate by as much.
    """

    hidden: int = 4
    exp_mult: float = 0.001
    step_mult: float = 0.001
    nominal: Literal["sgd", "sgdm", "aggmo", "adam", "adam_aggmo"] = "adam_aggmo"
    nominal_rate: float = 0.0
    nominal_exp_mult: float = 0.001
    weight_decay: float = 0.0
    decay_exp_mult: float = 0.001
    precondition: bool = False
    steer_nominal: bool = True
    steer_decay: bool = True
    average_magnitudes: bool = False

    def __post_init__(self) -> None:
        check_at_least_one(self, "hidden")
        check_above_zero(self, "exp_mult", "step_mult", "nominal_exp_mult", "decay_exp_mult")
        check_not_negative(self, "nominal_rate", "weight_decay")

    def init(self, key: PRNGKeyArray) -> Theta:
        """Normal weights cut at two standard deviations of 1/sqrt(inputs), zero biases."""
        sizes = (TENSOR_FEATURES + len(TIMES), self.hidden, self.hidden, 4)
        return init_offsets() | init_perceptron(key, sizes)

    def opt(
        self,
        theta: Theta,
        horizon: Horizon,
        key: PRNGKeyArray | None = None,
        learning_rate: float | Array | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        """The rule with weights `theta`; it reads no extra arguments, no horizon and no key."""
        del horizon, key
        stretch = 1.0 if learning_rate is None else learning_rate / self.step_mult

        def step(memory: Any, gradient: Array, param: Array, count: Array) -> tuple[Array, Any]:
            memory = remember(theta, memory, gradient)
            base, clock = adafactor_base(gradient, param, memory), time_features(count)
            outputs = perceptron(theta, adafactor_features, base, param.shape, clock)
            learned, nominal, decay = self._sizes(outputs)
            if self.precondition:
                learned = learned * inverse_root(memory.square[0])
            move = learned + nominal * self._direction(gradient, memory)
            return -stretch * move - decay * param, memory

        return tensorwise("star", fresh_memory, step)

    def _sizes(self, outputs: list[Array]) -> tuple[Array, Array, Array]:
        """The learned step, the length of the nominal one, and the part of p that decays."""
        direction, magnitude, nominal, decay = outputs
        if self.average_magnitudes:
            magnitude, nominal, decay = (x.mean() for x in (magnitude, nominal, decay))
        if not self.steer_nominal:
            nominal = jnp.float32(1.0)
        if not self.steer_decay:
            decay = jnp.float32(0.0)
        return (
            self.step_mult * direction * jnp.exp(self.exp_mult * magnitude),
            self.nominal_rate * jnp.exp(self.nominal_exp_mult * nominal),
            self.weight_decay * jnp.exp(self.decay_exp_mult * decay),
        )

    def _direction(self, gradient: Float[Array, "*s"], memory: Memory) -> Float[Array, "*s"]:
        if self.nominal == "sgd":
            return gradient
        many = self.nominal in ("aggmo", "adam_aggmo")
        direction = memory.momentum.mean(axis=0) if many else memory.momentum[-1]
        if self.nominal in ("adam", "adam_aggmo"):
            direction = direction * inverse_root(memory.square[0])
        return direction


PRESETS: dict[str, Star] = {
    "plain": Star(),
    "steady": Star(nominal_rate=0.001, weight_decay=1e-5, precondition=True),
}
