"""A small network per scalar that corrects a hand-made rule, and a scheduler that paces it.

The network reads what Celo2's (2602.19142) does. Where Celo2 makes the whole step of its network,
here the step is that of an anchor, which the network and the scheduler change: with zero readouts
the rule is the anchor, so meta-training starts from a strong optimizer. The scheduler, of one row
per tensor, reads time, the loss and the tensor; with it the rule needs no learning rate.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learned_opt.anchors.base import EPS, SMALLEST_RMS
from learned_opt.anchors.relative_adam import B2, nominal_schedule
from learned_opt.base import Horizon, Params, Theta
from learned_opt.columns import tame
from learned_opt.learned.parts.cells import affine, init_affine
from learned_opt.learned.parts.checks import check_above_zero, check_at_least_one
from learned_opt.learned.parts.features import FRACTIONS, FactoredMoment, fraction_features
from learned_opt.learned.parts.local_network import (
    NUM_INPUTS,
    SQUARE_EPS,
    local_network,
    unit_rms,
)
from learned_opt.learned.parts.loss_buffer import SCALES, LossBuffer
from learned_opt.learned.parts.losses import one_number
from learned_opt.learned.parts.memory import Decays, Memory
from learned_opt.learned.parts.moment_features import FACTORED_DECAYS, MOMENTUM_DECAYS
from learned_opt.learned.parts.nominal import LOG_STEP_RANGE
from learned_opt.learned.parts.stacks import Stacks, over_tensors
from learned_opt.naming import check_name

SQUARE_DECAYS = {"nominal": B2, "adam": 0.95}
RATES = {"nominal": 0.1, "adam": 0.001}
# Momenta that are mixed: those of the first two averages and none, which is the gradient itself.
MIXED = (0.9, 0.99, 0.0)
AGREEMENT_DECAY = 0.95
NUM_TENSOR_FEATURES = 7
NUM_SCHEDULER_INPUTS = len(FRACTIONS) + 1 + (SCALES - 1) + NUM_TENSOR_FEATURES


class AnchoredMLPState(NamedTuple):
    """float32 whatever the parameters are."""

    count: Int[Array, ""]  # updates made so far
    held: Int[Array, ""]  # finite losses among those given as value=
    losses: LossBuffer  # of them
    memories: tuple[Memory, ...]  # one for each shape, in order of first appearance
    agreements: tuple[Float[Array, " _"], ...]  # of each tensor's gradients with the steps before


@dataclass(frozen=True)
class AnchoredMLP:
    """The rule's static choices; 338 weights of the network and 772 of the scheduler.

    anchor: "nominal" starts from `relative_adam`, p - 0.1 s(t) max(RMS(p), 0.05) u, "adam" from
    p - 0.001 s(t) N(u) with N(u) of RMS 1 over the last two axes. hidden: units of each of the
    network's two hidden layers. scheduler_hidden: of the scheduler's. learning_rate: in place of
    the anchor's 0.1 or 0.001.
    """

    anchor: Literal["nominal", "adam"] = "nominal"
    hidden: int = 8
    scheduler_hidden: int = 16
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        check_name("anchor", self.anchor, RATES)
        check_at_least_one(self, "hidden", "scheduler_hidden")
        check_above_zero(self, "learning_rate")

    def init(self, key: PRNGKeyArray) -> Theta:
        """Hidden layers that keep the size of their inputs; readouts near zero.

        Groups: param_hidden and param_readout are the network, scheduler_hidden and
        scheduler_readout the scheduler.
        """
        first, second, readout, *scheduler = jax.random.split(key, 6)
        h, s = self.hidden, self.scheduler_hidden
        return {
            "param_hidden": {
                "first": init_affine(first, NUM_INPUTS, h, 1.0),
                "second": init_affine(second, h, h, 2.0**0.5),
            },
            "param_readout": init_affine(readout, h, 2, 0.01),
            "scheduler_hidden": {
                "first": init_affine(scheduler[0], NUM_SCHEDULER_INPUTS, s, 1.0),
                "second": init_affine(scheduler[1], s, s, 1.0),
            },
            "scheduler_readout": init_affine(scheduler[2], s, 1 + len(MIXED), 0.01),
        }

    def opt(
        self,
        theta: Theta,
        horizon: Horizon,
        key: PRNGKeyArray | None = None,
        learning_rate: float | Array | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        """The rule with weights `theta`; its update reads value=, the loss, where it is given.

        Without it the scheduler reads zeros in place of the loss's progress. horizon: T of the
        schedule. learning_rate: in place of the rule's own.
        """
        del key
        rate = self.learning_rate if learning_rate is None else learning_rate
        rate = RATES[self.anchor] if rate is None else rate

        def init(params: Params) -> AnchoredMLPState:
            stacks = Stacks.of(params)
            kinds = (len(MOMENTUM_DECAYS), 1, len(FACTORED_DECAYS))
            sizes = zip(stacks.counts, stacks.shapes, strict=True)
            return AnchoredMLPState(
                jnp.zeros((), jnp.int32),
                jnp.zeros((), jnp.int32),
                LossBuffer.start(horizon),
                tuple(Memory.zeros(tensors, shape, kinds) for tensors, shape in sizes),
                tuple(jnp.zeros(tensors) for tensors in stacks.counts),
            )

        def update(
            updates: Any, state: Any, params: Any = None, value: Any = None, **extra: Any
        ) -> tuple[Any, Any]:
            del extra
            if params is None:
                raise ValueError("params: anchored_mlp reads them, pass params")
            held, losses = _hold(state.held, state.losses, value)
            run = _run_features(state.count, horizon, held, losses)
            pace = -rate * nominal_schedule(state.count, horizon)
            stacks = Stacks.of(params)
            moved, memories, agreements = [], [], []
            for memory, agreement, *seen in zip(
                state.memories,
                state.agreements,
                stacks.gather(updates),
                stacks.gather(params),
                strict=True,
            ):
                one = partial(self._step, theta, state.count + 1, pace, run)
                step, memory, agreement = over_tensors(one, memory, agreement, *seen)
                moved.append(step)
                memories.append(memory)
                agreements.append(agreement)
            kept = tuple(memories), tuple(agreements)
            state = AnchoredMLPState(state.count + 1, held, losses, *kept)
            return stacks.scatter(moved, params), state

        return optax.GradientTransformationExtraArgs(init, update)

    def _step(
        self,
        theta: Theta,
        count: Int[Array, ""],
        pace: Float[Array, ""],
        run: Float[Array, " f"],
        memory: Memory,
        agreement: Float[Array, ""],
        gradient: Float[Array, "*s"],
        param: Float[Array, "*s"],
    ) -> tuple[Float[Array, "*s"], Memory, Float[Array, ""]]:
        """One tensor's step before schedule and rate, its new memory and agreement.

        count: updates made with this one. run: what the scheduler reads of the run.
        """
        gradient = tame(gradient)
        before = memory.momentum[0]
        square_decay = SQUARE_DECAYS[self.anchor]
        memory = memory.step(
            Decays(
                jnp.array(MOMENTUM_DECAYS), jnp.array([square_decay]), jnp.array(FACTORED_DECAYS)
            ),
            gradient,
        )
        square = memory.square[0] / (1.0 - square_decay**count)
        inverse = _inverse_root(square)
        directions = _directions(memory.momentum, gradient, count, inverse)
        lengths = jnp.stack([_rms(u) for u in directions])
        agreement = AGREEMENT_DECAY * agreement + (1.0 - AGREEMENT_DECAY) * _cosine(
            directions[-1], before * inverse
        )
        size = jnp.sqrt(jnp.maximum(jnp.mean(jnp.square(param)), SMALLEST_RMS**2))
        tensor = [
            jnp.array([0.2 * math.log(gradient.size) - 1.0, float(gradient.ndim < 2)]),
            0.5 * jnp.log(size)[None],
            jnp.log(lengths + 1e-3),
            agreement[None],
        ]
        log_step, *mixing = self._schedule(theta, jnp.concatenate([run, *tensor]))
        said = self._network(theta, gradient, param, memory, jnp.mean(square))
        if self.anchor == "adam":
            u = memory.momentum[0] * jax.lax.rsqrt(memory.square[0] + SQUARE_EPS)
            direction = unit_rms(unit_rms(u) + said[0])
            stretch = jnp.exp(jnp.clip(log_step, *LOG_STEP_RANGE))
            return pace * stretch * direction, memory, agreement
        residual = said[0] * jax.lax.rsqrt(1.0 + jnp.square(said[0]))
        direction = directions[0] + lengths[0] * residual
        for weight, u in zip(mixing, directions, strict=True):
            direction = direction + weight * u
        stretch = jnp.exp(jnp.clip(log_step + said[1], *LOG_STEP_RANGE))
        return pace * size * stretch * direction, memory, agreement

    def _schedule(self, theta: Theta, features: Float[Array, " f"]) -> Float[Array, "4"]:
        """Log step and mixing weights of one tensor."""
        x = features[:, None]
        for layer in ("first", "second"):
            x = jnp.tanh(affine(theta["scheduler_hidden"][layer], x))
        return affine(theta["scheduler_readout"], x)[:, 0]

    def _network(
        self,
        theta: Theta,
        gradient: Float[Array, "*s"],
        param: Float[Array, "*s"],
        memory: Memory,
        mean_square: Float[Array, ""],
    ) -> list[Float[Array, "*s"]]:
        """What is said of every scalar: residual direction and log step.

        Gradients are measured by the tensor's own mean_square, so no unit of the loss is seen.
        """
        scale = jax.lax.rsqrt(jnp.maximum(mean_square, 1e-30))
        row, column = memory.factored
        memory = Memory(
            scale * memory.momentum,
            scale**2 * memory.square,
            FactoredMoment(scale**2 * row, None if column is None else scale**2 * column),
        )
        hidden, readout = theta["param_hidden"], theta["param_readout"]
        layers = [(x["w"], x["b"]) for x in (hidden["first"], hidden["second"], readout)]
        return local_network(layers, scale * gradient, param, memory)


def _hold(
    held: Int[Array, ""], losses: LossBuffer, value: Any
) -> tuple[Int[Array, ""], LossBuffer]:
    """The losses with one more, unless that is None or not finite."""
    if value is None:
        return held, losses
    value = one_number("value", value)
    known = jnp.isfinite(value)
    stepped = held + 1, losses.step(value, held)
    return jax.tree.map(lambda new, old: jnp.where(known, new, old), stepped, (held, losses))


def _run_features(
    count: Int[Array, ""], horizon: Horizon, held: Int[Array, ""], losses: LossBuffer
) -> Float[Array, " f"]:
    """What the scheduler reads of the run: time, its length, the loss's progress."""
    time = fraction_features(jnp.minimum(count, horizon), horizon)
    length = 0.2 * jnp.log(jnp.asarray(horizon, jnp.float32)) - 1.0
    return jnp.concatenate([time, length[None], losses.features(jnp.maximum(held, 1))])


def _directions(
    momentum: Float[Array, "3 *s"],
    gradient: Float[Array, "*s"],
    count: Int[Array, ""],
    inverse: Float[Array, "*s"],
) -> list[Float[Array, "*s"]]:
    """Adam's direction at the three momenta of MIXED."""
    averaged = [m / (1.0 - decay**count) for m, decay in zip(momentum, MIXED, strict=False)]
    return [x * inverse for x in (*averaged[:2], gradient)]


def _inverse_root(square: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """1 / (sqrt(x) + 1e-12), with derivative 0 at 0, where every gradient was 0."""
    return 1.0 / (jnp.sqrt(jnp.where(square > 0.0, square, 1.0)) + EPS)


def _rms(x: Float[Array, "*s"]) -> Float[Array, ""]:
    return jnp.sqrt(jnp.mean(jnp.square(x)) + EPS)


def _cosine(x: Float[Array, "*s"], y: Float[Array, "*s"]) -> Float[Array, ""]:
    """Of the angle between two directions; 0 where one of them is 0."""
    return jnp.mean(x * y) / (_rms(x) * _rms(y))
