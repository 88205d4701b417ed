"""The small per-parameter network on Adafactor-style features (Metz et al. 2022, 2203.11860).

One network of two hidden layers, the same for every scalar, reads the gradient, the parameter,
averages of both kinds at several timescales and the time, each normalised over its tensor, and says
a direction and a log magnitude. It does not know how long the run will be.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learned_opt.base import Horizon, Params, Theta
from learned_opt.learned.parts.features import (
    TIMES,
    clip_gradient,
    normaliser,
    offset_decays,
    time_features,
)
from learned_opt.learned.parts.memory import Decays, Memory, Second
from learned_opt.learned.parts.scalar_network import scalar_network
from learned_opt.learned.parts.stacks import Stacks

MOMENTUM_DECAYS = (0.9, 0.99, 0.999)
SQUARE_DECAYS = (0.999,)
FACTORED_DECAYS = (0.9, 0.99, 0.999)
TENSOR_FEATURES = 28


class SmallFCState(NamedTuple):
    """float32 whatever the parameters are; every field changes every step."""

    count: Int[Array, ""]  # updates made so far
    memories: tuple[Memory, ...]  # one for each shape, in order of first appearance


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
        if self.hidden < 1:
            raise ValueError(f"hidden: {self.hidden} is not allowed; it must be at least 1")
        for name in ("exp_mult", "step_mult"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name}: {value} is not allowed; it must be finite and above 0")

    def init(self, key: PRNGKeyArray) -> Theta:
        """Normal weights cut at two standard deviations of 1/sqrt(inputs), zero biases."""
        sizes = (TENSOR_FEATURES + len(TIMES), self.hidden, self.hidden, 2)
        theta: dict[str, Array] = {
            "momentum_offset": jnp.zeros(len(MOMENTUM_DECAYS)),
            "square_offset": jnp.zeros(len(SQUARE_DECAYS)),
            "factored_offset": jnp.zeros(len(FACTORED_DECAYS)),
        }
        for i, layer_key in enumerate(jax.random.split(key, 3)):
            shape = sizes[i : i + 2]
            draw = jax.random.truncated_normal(layer_key, -2.0, 2.0, shape)
            theta |= {f"w{i}": draw / shape[0] ** 0.5, f"b{i}": jnp.zeros(shape[1])}
        return theta

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

        def init(params: Params) -> SmallFCState:
            stacks = Stacks.of(params)
            kinds = (len(MOMENTUM_DECAYS), len(SQUARE_DECAYS), len(FACTORED_DECAYS))
            memories = tuple(
                Memory.zeros(tensors, shape, kinds)
                for tensors, shape in zip(stacks.counts, stacks.shapes, strict=True)
            )
            return SmallFCState(jnp.zeros((), jnp.int32), memories)

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
            del extra
            if params is None:
                raise ValueError("params: small_fc reads them, pass params")
            stacks = Stacks.of(params)
            shared = theta["b0"] + time_features(state.count) @ theta["w0"][TENSOR_FEATURES:]
            moved, memories = [], []
            for memory, *seen in zip(
                state.memories, stacks.gather(updates), stacks.gather(params), strict=True
            ):
                step, memory = jax.vmap(partial(self._step, theta, shared))(memory, *seen)
                moved.append(-rate * step)
                memories.append(memory)
            state = SmallFCState(state.count + 1, tuple(memories))
            return stacks.scatter(moved, params), state

        return optax.GradientTransformationExtraArgs(init, update)

    def _step(
        self,
        theta: Theta,
        shared: Float[Array, " h"],
        memory: Memory,
        gradient: Float[Array, "*s"],
        param: Float[Array, "*s"],
    ) -> tuple[Float[Array, "*s"], Memory]:
        """direction * exp(exp_mult * magnitude) for one tensor, and its new memory.

        shared: what all scalars add to the first layer, made from the bias and the time.
        """
        gradient = clip_gradient(gradient)
        memory = memory.step(
            Decays(
                offset_decays(MOMENTUM_DECAYS, theta["momentum_offset"]),
                offset_decays(SQUARE_DECAYS, theta["square_offset"]),
                offset_decays(FACTORED_DECAYS, theta["factored_offset"]),
            ),
            gradient,
        )
        second = Second.of(memory.factored, unfactored_eps=1e-6)
        base = [gradient[None], param[None], memory.momentum, memory.square, *second]
        scales = jnp.concatenate([normaliser(x) for x in _features(*base)])
        first = scales[:, None] * theta["w0"][:TENSOR_FEATURES]
        layers = [(first, shared), (theta["w1"], theta["b1"]), (theta["w2"], theta["b2"])]
        direction, magnitude = scalar_network(layers, _features, base, gradient.shape)
        return direction * jnp.exp(self.exp_mult * magnitude), memory


def _features(
    gradient: Array,
    param: Array,
    momentum: Array,
    square: Array,
    row: Array,
    column: Array,
    gradient_factor: Array,
    momentum_factor: Array,
) -> list[Array]:
    """The 28 features in their order, by groups."""
    inverse = jax.lax.rsqrt(square + 1e-6)
    return [
        gradient,
        param,
        momentum,
        square,
        momentum * inverse,
        inverse,
        gradient * gradient_factor,
        row,
        column,
        jax.lax.rsqrt(row + 1e-8),
        jax.lax.rsqrt(column + 1e-8),
        momentum * momentum_factor,
    ]
