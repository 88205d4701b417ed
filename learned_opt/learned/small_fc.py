"""The small per-parameter network on Adafactor-style features (Metz et al. 2022, 2203.11860).

One network of two hidden layers, the same for every scalar, reads the gradient, the parameter,
averages of both kinds at several timescales and the time, each normalised over its tensor, and
returns a direction and a log magnitude. It does not read the length of the run.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from learned_opt.base import Horizon, Theta
from learned_opt.checks import check_above_zero, check_at_least_one
from learned_opt.learned.parts.adafactor_features import (
    TENSOR_FEATURES,
    adafactor_base,
    adafactor_features,
    fresh_memory,
    init_offsets,
    remember,
)
from learned_opt.learned.parts.features import TIMES, time_features
from learned_opt.learned.parts.perceptron import init_perceptron, perceptron
from learned_opt.learned.parts.tensorwise import tensorwise


@dataclass(frozen=True)
class SmallFC:
    """The rule's static choices; 197 weights with the published hidden size 4, 2,409 with 32.

    hidden: units of each of the two hidden layers. exp_mult, step_mult: a parameter moves by
    -step_mult * direction * exp(exp_mult * magnitude); a learning rate given to `opt` takes the
    place of step_mult.
    """

    hidden: int = 4
    exp_mult: float = 0.001
    step_mult: float = 0.001

    def __post_init__(self) -> None:
        check_at_least_one(self, "hidden")
        check_above_zero(self, "exp_mult", "step_mult")

    def init(self, key: PRNGKeyArray) -> Theta:
        """Normal weights cut at two standard deviations of 1/sqrt(inputs), zero biases."""
        sizes = (TENSOR_FEATURES + len(TIMES), self.hidden, self.hidden, 2)
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
        rate = self.step_mult if learning_rate is None else learning_rate

        def step(memory: Any, gradient: Array, param: Array, count: Array) -> tuple[Array, Any]:
            memory = remember(theta, memory, gradient)
            base, clock = adafactor_base(gradient, param, memory), time_features(count)
            direction, magnitude = perceptron(theta, adafactor_features, base, param.shape, clock)
            return -rate * direction * jnp.exp(self.exp_mult * magnitude), memory

        return tensorwise("small_fc", fresh_memory, step)


PRESETS: dict[str, SmallFC] = {"hidden_4": SmallFC(), "hidden_32": SmallFC(hidden=32)}
