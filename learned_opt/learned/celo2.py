"""Celo2 (Moudgil et al. 2026, 2602.19142): the direction of every step, at a rate from outside.

A small network, the same for every scalar, reads averages of the gradient, each normalised over the
last two axes of its tensor. It reads no time, no loss and no size: its direction is brought to root
mean square 1, so a rate and a schedule are chosen as for Adam.
"""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.base import Horizon, Params, Theta
from learned_opt.checks import (
    check_above_zero,
    check_at_least_one,
    check_not_negative,
)
from learned_opt.hand.paths import check_pattern, path_of
from learned_opt.hand.schedules import SCHEDULES, schedule
from learned_opt.learned.parts.local_network import (
    NUM_INPUTS,
    SQUARE_EPS,
    local_network,
    unit_rms,
)
from learned_opt.learned.parts.memory import Decays, Memory
from learned_opt.learned.parts.moment_features import FACTORED_DECAYS, MOMENTUM_DECAYS
from learned_opt.learned.parts.perceptron import init_perceptron
from learned_opt.learned.parts.routing import Labels, route
from learned_opt.learned.parts.tensorwise import tensorwise
from learned_opt.naming import check_name

SQUARE_DECAYS = (0.95,)
ADAM_B1, ADAM_B2 = 0.9, 0.95
# Found in a path, these mark biases and tables of embeddings.
ADAM_PATHS = r"(^|/)b(ias)?$|embed"
QUINTIC = (3.4445, -4.7750, 2.0315)
QUINTIC_STEPS = 5


class _Moments(NamedTuple):
    """Adam's, without bias correction."""

    mu: Array
    nu: Array


@dataclass(frozen=True)
class Celo2:
    """The rule's static choices; 347 weights with the published hidden size 8.

    hidden: units of each of the two hidden layers. orthogonalise: directions of rank 2 and above
    are brought near matrices with equal singular values, over the last two axes. adam_paths: a
    regular expression; tensors in whose path it is found, and those of rank 0 and 1, are left to
    Adam at adam_multiple times the rate; None leaves all to the network. weight_decay: decoupled, a
    part of the rate. schedule: of the rate, one of learned_opt.hand.schedules.SCHEDULES, over the
    run's length. State: 4 floats a parameter and 3 for each row and column, with Adam 2.
    """

    hidden: int = 8
    orthogonalise: bool = False
    adam_paths: str | None = None
    adam_multiple: float = 20.0
    weight_decay: float = 0.0
    learning_rate: float = 0.001
    schedule: str = "constant"

    def __post_init__(self) -> None:
        check_at_least_one(self, "hidden")
        check_above_zero(self, "adam_multiple", "learning_rate")
        check_not_negative(self, "weight_decay")
        check_name("schedule", self.schedule, SCHEDULES)
        if self.adam_paths is not None:
            check_pattern("adam_paths", self.adam_paths)

    def init(self, key: PRNGKeyArray) -> Theta:
        """Normal weights cut at two standard deviations of 1/sqrt(inputs), zero biases."""
        return init_perceptron(key, (NUM_INPUTS, self.hidden, self.hidden, 3))

    def labels(self, params: Params) -> Params:
        """ "network" or "adam" for every leaf; a subclass may divide them another way."""

        def label(path: jax.tree_util.KeyPath, leaf: Any) -> str:
            routed = self.adam_paths is not None and (
                jnp.ndim(leaf) < 2 or re.search(self.adam_paths, path_of(path)) is not None
            )
            return "adam" if routed else "network"

        return jax.tree_util.tree_map_with_path(label, params)

    def opt(
        self,
        theta: Theta,
        horizon: Horizon,
        key: PRNGKeyArray | None = None,
        learning_rate: float | Array | None = None,
        labels: Labels | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        """The rule with weights `theta`; it reads no extra arguments and no key.

        horizon: of the schedule. learning_rate: in place of the rule's own. labels: "network" or
        "adam" in place of `self.labels`: a tree of them, as that of the parameters or the top of
        it, or a function from parameters to one; the first `init` raises ValueError on any other.
        """
        del key
        rate = self.learning_rate if learning_rate is None else learning_rate
        factor = schedule(self.schedule, horizon)

        def move(direction: Array, param: Array, count: Array) -> Array:
            return -rate * factor(count) * (direction + self.weight_decay * param)

        def network(memory: Memory, gradient: Array, param: Array, count: Array) -> Any:
            direction, memory = self._direction(theta, memory, gradient, param)
            return move(direction, param, count), memory

        def adam(moments: _Moments, gradient: Array, param: Array, count: Array) -> Any:
            mu = ADAM_B1 * moments.mu + (1.0 - ADAM_B1) * gradient
            nu = ADAM_B2 * moments.nu + (1.0 - ADAM_B2) * jnp.square(gradient)
            step = self.adam_multiple * move(mu * jax.lax.rsqrt(nu + SQUARE_EPS), param, count)
            return step, _Moments(mu, nu)

        rules: dict[Any, optax.GradientTransformation] = {
            "network": tensorwise("celo2", _fresh_memory, network),
            "adam": tensorwise("celo2", _fresh_moments, adam),
        }
        return optax.partition(
            rules, self.labels if labels is None else route(labels, tuple(rules))
        )

    def _direction(
        self, theta: Theta, memory: Memory, gradient: Float[Array, "*s"], param: Float[Array, "*s"]
    ) -> tuple[Float[Array, "*s"], Memory]:
        """The direction of ascent of one tensor, of root mean square 1, and its new memory."""
        decays = (MOMENTUM_DECAYS, SQUARE_DECAYS, FACTORED_DECAYS)
        memory = memory.step(Decays(*map(jnp.asarray, decays)), gradient)
        layers = [(theta[f"w{i}"], theta[f"b{i}"]) for i in range(3)]
        direction, *_ = local_network(layers, gradient, param, memory)
        if self.orthogonalise and param.ndim > 1:
            direction = orthogonalised(direction)
        return unit_rms(direction), memory


def orthogonalised(x: Float[Array, "*b m n"]) -> Float[Array, "*b m n"]:
    """Singular values of the last two axes pushed towards 1 by five Newton-Schulz steps."""
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    total = jnp.sum(jnp.square(x), axis=(-2, -1), keepdims=True)
    x = x / (jnp.sqrt(jnp.where(total > 0.0, total, 1.0)) + 1e-8)
    a, b, c = QUINTIC
    for _ in range(QUINTIC_STEPS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


def _fresh_memory(tensors: int, shape: tuple[int, ...]) -> Memory:
    kinds = (len(MOMENTUM_DECAYS), len(SQUARE_DECAYS), len(FACTORED_DECAYS))
    return Memory.zeros(tensors, shape, kinds)


def _fresh_moments(tensors: int, shape: tuple[int, ...]) -> _Moments:
    return _Moments(jnp.zeros((tensors, *shape)), jnp.zeros((tensors, *shape)))


PRESETS: dict[str, Celo2] = {
    "base": Celo2(),
    "orthogonal": Celo2(orthogonalise=True, adam_paths=ADAM_PATHS),
}
