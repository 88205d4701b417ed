"""A small network per tensor that paces an anchor: rate, weight decay and mix of directions.

With zero readouts the rule is the anchor, so meta-training starts from a strong optimizer. All that
the network reads is free of units, and what it changes is bounded.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from learned_opt.anchors.base import NUM_DIRECTIONS, RATE, Plan, tensor_size
from learned_opt.anchors.relative_adam import RelativeAdam
from learned_opt.anchors.relative_soap import RelativeSoap
from learned_opt.anchors.rule import (
    gradients_of,
    moves,
    start_average,
    start_tensors,
    step_along,
    step_average,
    trained,
)
from learned_opt.base import DEFAULT_NUM_STEPS, EvalPoint, Horizon, Params, Theta
from learned_opt.checks import check_at_least_one
from learned_opt.learned.parts.cells import init_affine, tanh_network
from learned_opt.learned.parts.corrections import with_agreement
from learned_opt.learned.parts.loss_buffer import SCALES, LossBuffer, losses_with

LOG_PACE_RANGE = (-2.0, 1.5)
LOG_DECAY_RANGE = (-3.0, 2.0)
LARGEST_SHARE = 0.5  # of a direction that is not the anchor's own
NUM_OUTPUTS = 2 + NUM_DIRECTIONS - 1
NUM_INPUTS = 5 + (SCALES - 1) + 8


class AnchoredSoapState(NamedTuple):
    """float32 whatever the parameters are."""

    count: Int[Array, ""]  # updates made so far
    has_length: Bool[Array, ""]  # whether the run has a known length
    held: Int[Array, ""]  # finite losses among those given as value=
    losses: LossBuffer  # of them
    tensors: tuple[Any, ...]  # of the anchor, for each trained leaf
    agreements: Float[Array, " t"]  # of each tensor's gradients with the steps before
    average: EvalPoint | None  # of the parameters, where the length may be unknown


@dataclass(frozen=True)
class AnchoredSoap:
    """The rule's static choices; 708 weights, 68 of them the readout.

    anchor: what is paced. hidden: units of each of the two hidden layers. unknown_length: share of
    meta-training runs without a known length, from 0 to 1.
    """

    anytime: ClassVar[bool] = True
    anchor: RelativeAdam | RelativeSoap = RelativeSoap()
    hidden: int = 16
    unknown_length: float = 0.0

    def __post_init__(self) -> None:
        check_at_least_one(self, "hidden")
        if not 0.0 <= self.unknown_length <= 1.0:
            raise ValueError(
                f"unknown_length: {self.unknown_length} is not allowed; it must be from 0 to 1"
            )

    def decaying(self, weight_decay: float) -> "AnchoredSoap":
        """The rule over an anchor of this weight decay, which the network scales."""
        return replace(self, anchor=replace(self.anchor, weight_decay=weight_decay))

    def init(self, key: PRNGKeyArray) -> Theta:
        """Hidden layers that keep the size of their inputs; a readout near zero."""
        first, second, readout = jax.random.split(key, 3)
        return {
            "hidden": {
                "first": init_affine(first, NUM_INPUTS, self.hidden, 1.0),
                "second": init_affine(second, self.hidden, self.hidden, 1.0),
            },
            "readout": init_affine(readout, self.hidden, NUM_OUTPUTS, 0.01),
        }

    def opt(
        self,
        theta: Theta,
        horizon: Horizon | None,
        key: PRNGKeyArray | None = None,
        learning_rate: float | Array | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        """The rule with weights `theta`; its update reads value=, the loss, where it is given.

        horizon: updates of the run; None without a known length. key: draws whether this run is
        taken as one without. learning_rate: in place of the anchor's 0.1.
        """
        rate = RATE if learning_rate is None else learning_rate
        has_length = jnp.array(horizon is not None)
        if key is not None and horizon is not None:
            has_length = ~jax.random.bernoulli(key, self.unknown_length)
        averages = horizon is None or self.unknown_length > 0.0

        def init(params: Params) -> Any:
            tensors = start_tensors(self.anchor, params, self.anchor.momenta())
            return AnchoredSoapState(
                jnp.zeros((), jnp.int32),
                has_length,
                jnp.zeros((), jnp.int32),
                LossBuffer.start(DEFAULT_NUM_STEPS if horizon is None else horizon),
                tensors,
                jnp.zeros(len(tensors)),
                start_average(params) if averages else None,
            )

        def update(
            updates: Any, state: Any, params: Any = None, value: Any = None, **extra: Any
        ) -> tuple[Any, Any]:
            del extra
            if params is None:
                raise ValueError("params: anchored_soap sizes its step by them, pass params")
            leaves, gradients = trained(params), gradients_of(updates, params)
            held, losses = losses_with(state.held, state.losses, value)
            state = state._replace(count=state.count + 1, held=held, losses=losses)
            pace = rate * self._pace(state, horizon, sum(leaf.size for leaf in leaves))
            tensors, directions = self.anchor.step(
                state.tensors, gradients, state.count, self.anchor.momenta()
            )
            state = state._replace(
                tensors=tuple(tensors),
                agreements=with_agreement(state.agreements, directions, state.count),
            )
            rows = _inputs(state, horizon, directions, leaves)
            outputs = tanh_network(theta["hidden"], theta["readout"], rows)
            steps = [
                self._step(pace, *each)
                for each in zip(tensors, directions, leaves, outputs, strict=True)
            ]
            moved = moves(params, steps)
            return moved, state._replace(average=_averaged(state, params, moved))

        return optax.GradientTransformationExtraArgs(init, update)

    def _pace(
        self, state: AnchoredSoapState, horizon: Horizon | None, num_params: int
    ) -> Float[Array, ""]:
        of = lambda length: self.anchor.pace(Plan(length, num_params), state.count)
        if horizon is None or self.unknown_length == 0.0:
            return of(horizon)
        return jnp.where(state.has_length, of(horizon), of(None))

    def _step(
        self,
        pace: Float[Array, ""],
        tensor: Any,
        directions: list[Array],
        param: Float[Array, "*s"],
        outputs: Float[Array, " o"],
    ) -> Float[Array, "*s"]:
        """What one tensor moves by."""
        stretch = jnp.exp(jnp.clip(outputs[0], *LOG_PACE_RANGE))
        decay_scale = jnp.exp(jnp.clip(outputs[1], *LOG_DECAY_RANGE))
        direction = _mixed(directions, outputs[2:])
        return stretch * step_along(self.anchor, tensor, direction, param, pace, decay_scale)


def _mixed(directions: list[Float[Array, "*s"]], outputs: Float[Array, " k"]) -> Float[Array, "*s"]:
    """The anchor's own direction with bounded shares of a slower one and of the gradient itself.

    Both are clipped: an outlier would be worth many steps.
    """
    own, slow, raw = directions
    slow_share, raw_share = LARGEST_SHARE * jnp.tanh(outputs)
    slow, raw = jnp.clip(slow, -1.0, 1.0), jnp.clip(raw, -1.0, 1.0)
    return own + slow_share * (slow - own) + raw_share * (raw - own)


def _averaged(state: AnchoredSoapState, params: Params, updates: Params) -> EvalPoint | None:
    """The running average; the parameters themselves in a run of known length."""
    if state.average is None:
        return None
    stepped = step_average(state.average, params, updates, state.count)
    chosen = lambda average, p, u: jnp.where(state.has_length, p + u, average)
    return EvalPoint(jax.tree.map(chosen, stepped.params, params, updates))


def _inputs(
    state: AnchoredSoapState,
    horizon: Horizon | None,
    directions: list[list[Array]],
    params: list[Array],
) -> list[Float[Array, " f"]]:
    """What is read for each tensor."""
    run = _run_features(state, DEFAULT_NUM_STEPS if horizon is None else horizon)
    each = zip(state.tensors, directions, params, state.agreements, strict=True)
    return [jnp.concatenate([run, _tensor_features(*tensor)]) for tensor in each]


def _run_features(state: AnchoredSoapState, length: Horizon) -> Float[Array, " f"]:
    """What is read of the run: its length and the part that is done, or its age; the losses."""
    has_length, count = state.has_length, state.count.astype(jnp.float32)
    steps = jnp.asarray(length, jnp.float32)
    place = jnp.where(has_length, 2.0 * jnp.minimum((count - 1.0) / steps, 1.0) - 1.0, 0.0)
    time = [
        has_length.astype(jnp.float32),
        place,
        jnp.square(place),
        jnp.where(has_length, jnp.tanh(5.0 * place + 4.0), 0.0),
        0.3 * jnp.log(jnp.where(has_length, steps, count)) - 2.0,
    ]
    progress = state.losses.features(jnp.maximum(state.held, 1))
    return jnp.concatenate([jnp.stack(time), progress])


def _tensor_features(
    tensor: Any, directions: list[Array], param: Float[Array, "*s"], agreement: Float[Array, ""]
) -> Float[Array, " f"]:
    """What is read of a tensor: its size and shape, how much of the gradient is stable."""
    lengths = [0.5 * jnp.log(jnp.mean(jnp.square(u)) + 1e-6) for u in directions]
    energy = jnp.sum(jnp.square(tensor.mu[0])) / (jnp.sum(tensor.nu) + 1e-30)
    return jnp.stack(
        [
            jnp.float32(0.2 * math.log(param.size) - 1.0),
            jnp.float32(param.ndim < 2),
            0.5 * jnp.log(tensor_size(param)),
            *lengths,
            0.5 * jnp.log(energy + 1e-4) + 1.0,
            2.0 * agreement,
        ]
    )
