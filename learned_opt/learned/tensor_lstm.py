"""One LSTM for every tensor, one network for every scalar (Metz et al. 2020, 2009.11243).

The LSTM reads statistics of its tensor, the training and the validation loss, and two messages as
they were a step before: one from the scalars of its tensor, one from all tensors. It tells the
network of the scalars what they should know now. That network says a direction and a log magnitude
for every scalar, and the next message to the LSTM, a mean over the tensor.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learned_opt.anchors.relative_adam import B2, nominal_schedule
from learned_opt.base import Horizon, Params, Theta
from learned_opt.learned.parts.cells import affine, init_linear, init_lstm, lstm
from learned_opt.learned.parts.features import TIMES, accumulate, clip_gradient, normaliser
from learned_opt.learned.parts.losses import LossAverage, one_number
from learned_opt.learned.parts.nominal import (
    MOMENTA,
    RATE,
    Moments,
    directions_of,
    nominal_tensor_move,
)
from learned_opt.learned.parts.scalar_network import pooled_network
from learned_opt.learned.parts.stacks import Stacks
from learned_opt.naming import check_name

DECAYS = (0.5, 0.9, 0.99, 0.999, 0.9999)
TRAIN_DECAY, VALID_DECAY = 0.9, 0.95
CLIP_DECAY, CLIP_MULTIPLE, FIRST_SIZE = 0.99, 10.0, 0.01
SCALAR_FEATURES, TENSOR_FEATURES = 3 + 4 * len(DECAYS), 18
FROM_SCALARS, FROM_TENSORS, TO_SCALARS = 16, 18, 17  # numbers in each message


class Averages(NamedTuple):
    """Of one tensor's gradients and their squares, none bias-corrected: [5, *shape].

    A stack's have tensors in front.
    """

    momentum: Array
    square: Array

    def step(self, gradient: Float[Array, "*s"]) -> "Averages":
        """For one tensor: with this gradient in them."""
        decays = jnp.array(DECAYS)
        return Averages(
            accumulate(decays, self.momentum, gradient),
            accumulate(decays, self.square, jnp.square(gradient)),
        )


class TensorLSTMState(NamedTuple):
    """T tensors, k units; float32 whatever the parameters are. Every field changes every step."""

    count: Int[Array, ""]  # updates made so far
    averages: tuple[Averages, ...]  # one for each shape, in order of first appearance
    hidden: Float[Array, "k t"]
    cell: Float[Array, "k t"]
    from_scalars: Float[Array, "16 t"]  # messages of the step before
    from_tensors: Float[Array, "18"]
    train_loss: LossAverage
    valid_loss: LossAverage
    gradient_size: Float[Array, ""]  # average root mean square, by which gradients are bounded


@dataclass(frozen=True)
class TensorLSTM:
    """The rule's static choices; 35,799 weights as published.

    output: "direction" moves a parameter by -step_mult * direction * exp(exp_mult * magnitude);
    "nominal" takes both numbers as corrections to `relative_adam`, with a readout of the LSTM
    beside them: -0.1 s(t) max(RMS(p), 0.05) exp(a + magnitude) (sum_k (w_k + c_k) u_k + RMS(u_1)
    direction), a and c from the LSTM. A learning rate given to `opt` takes the place of step_mult,
    or of 0.1. hidden: units of each of the two hidden layers of the scalars' network. lstm_hidden:
    units of the LSTM.
    """

    reads_eval_value: ClassVar[bool] = True
    output: Literal["direction", "nominal"] = "direction"
    hidden: int = 32
    lstm_hidden: int = 64
    exp_mult: float = 0.001
    step_mult: float = 0.001

    def __post_init__(self) -> None:
        check_name("output", self.output, ("direction", "nominal"))
        for name in ("hidden", "lstm_hidden"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: {getattr(self, name)} is not allowed; it must be at least 1"
                )
        for name in ("exp_mult", "step_mult"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name}: {value} is not allowed; it must be finite and above 0")

    def init(self, key: PRNGKeyArray) -> Theta:
        """Normal weights cut at two standard deviations of 1/sqrt(inputs), zero biases.

        The LSTM starts at rest, the messages at random. Readouts of the nominal output are a
        hundredth of that: fresh weights are nearly `relative_adam`.
        """
        keys = jax.random.split(key, 10)
        units, k = self.hidden, self.lstm_hidden
        inputs = SCALAR_FEATURES + len(TIMES) + 3 + TO_SCALARS
        theta: dict[str, Any] = {
            "lstm": init_lstm(keys[0], FROM_TENSORS + FROM_SCALARS + TENSOR_FEATURES, k),
            "to_tensors": init_linear(keys[1], k, FROM_TENSORS),
            "to_scalars": init_linear(keys[2], k, TO_SCALARS),
            "layer0": init_linear(keys[3], inputs, units),
            "layer1": init_linear(keys[4], units, units),
            "scalar_readout": init_linear(keys[5], units, 2),
            "to_lstm": init_linear(keys[6], units, FROM_SCALARS),
            "start": {
                "hidden": jnp.zeros(k),
                "cell": jnp.zeros(k),
                "from_scalars": init_linear(keys[7], FROM_SCALARS, 1)["w"][:, 0],
                "from_tensors": init_linear(keys[8], FROM_TENSORS, 1)["w"][:, 0],
            },
        }
        if self.output == "nominal":
            theta["tensor_readout"] = init_linear(keys[9], k, 1 + len(MOMENTA))
            for name in ("tensor_readout", "scalar_readout"):
                theta[name] = jax.tree.map(lambda w: 0.01 * w, theta[name])
        return theta

    def opt(
        self,
        theta: Theta,
        horizon: Horizon,
        key: PRNGKeyArray | None = None,
        learning_rate: float | Array | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        """The rule with weights `theta`; it reads no key, and the horizon in "nominal" only.

        `update` reads `value`, the training loss, and `eval_value`, the loss on validation data;
        without `eval_value`, `value` stands in for it. A loss that is not finite counts as none:
        its average stays as it is.
        """
        del key
        rate = learning_rate
        if rate is None:
            rate = self.step_mult if self.output == "direction" else RATE

        def update(
            updates: Any,
            state: Any,
            params: Any = None,
            value: Any = None,
            eval_value: Any = None,
            **extra: Any,
        ) -> tuple[Any, Any]:
            del extra
            if params is None:
                raise ValueError("params: tensor_lstm reads them, pass params")
            value, eval_value = (
                None if loss is None else one_number(name, loss)
                for name, loss in (("value", value), ("eval_value", eval_value))
            )
            losses, state = _hear(state, value, value if eval_value is None else eval_value)
            stacks = Stacks.of(params)
            if not stacks.shapes:
                return stacks.scatter((), params), state._replace(count=state.count + 1)
            gradients, state = _bound(stacks.gather(updates), state)
            seen = list(zip(gradients, stacks.gather(params), strict=True))
            state = _step_tensors(theta, losses, _are_scalars(stacks, params), seen, state)
            tensors = sum(stacks.counts)
            made = [
                jax.vmap(partial(self._step, theta, state.count, tensors))(hidden, *stack, averages)
                for hidden, stack, averages in zip(
                    stacks.split(state.hidden.T), seen, state.averages, strict=True
                )
            ]
            messages = jnp.concatenate([message for _, message in made]).T
            scale = rate
            if self.output == "nominal":
                scale = rate * nominal_schedule(state.count, horizon)
            moved = stacks.scatter([-scale * move for move, _ in made], params)
            return moved, state._replace(count=state.count + 1, from_scalars=messages)

        return optax.GradientTransformationExtraArgs(partial(_start, theta), update)

    def _step(
        self,
        theta: Theta,
        count: Int[Array, ""],
        tensors: int,
        hidden: Float[Array, " k"],
        gradient: Float[Array, "*s"],
        param: Float[Array, "*s"],
        averages: Averages,
    ) -> tuple[Float[Array, "*s"], Float[Array, "16"]]:
        """For one tensor: its move, to be scaled, and the message to its LSTM.

        count: updates made before this one. tensors: how many there are. hidden: of its LSTM, after
        this step.
        """
        base = [gradient[None], param[None], *averages]
        scales = jnp.concatenate([normaliser(x) for x in _scalar_features(*base)])
        same = jnp.concatenate(
            [
                jnp.sin(count / (jnp.array(TIMES) * jnp.pi)),
                jnp.log(jnp.array([tensors], jnp.float32)) - 1.0,
                jnp.log(_norm(param) + 1e-8)[None],
                jnp.log(jnp.array([param.size], jnp.float32)),
                affine(theta["to_scalars"], hidden[:, None])[:, 0],
            ]
        )
        weight, bias = _pair(theta["layer0"])
        shared = bias + same @ weight[SCALAR_FEATURES:]
        layers = [
            (scales[:, None] * weight[:SCALAR_FEATURES], shared),
            _pair(theta["layer1"]),
            _pair(theta["scalar_readout"]),
        ]
        (direction, magnitude), message = pooled_network(
            layers, _pair(theta["to_lstm"]), _scalar_features, base, gradient.shape
        )
        if self.output == "direction":
            return direction * jnp.exp(self.exp_mult * magnitude), message
        moments = Moments(
            jnp.stack([averages.momentum[DECAYS.index(b)].reshape(-1) for b in MOMENTA[:2]]),
            averages.square[DECAYS.index(B2)].reshape(-1),
        )
        move = nominal_tensor_move(
            param.reshape(-1),
            jnp.concatenate(directions_of(moments, gradient.reshape(-1), count + 1)),
            affine(theta["tensor_readout"], hidden[:, None])[:, 0],
            magnitude.reshape(-1),
            direction.reshape(-1),
        )
        return move.reshape(gradient.shape), message


_DIRECTION = TensorLSTM()
PRESETS = {"paper": _DIRECTION, "nominal": replace(_DIRECTION, output="nominal")}


def _start(theta: Theta, params: Params) -> TensorLSTMState:
    """The state before the first step, from the learned `start`."""
    stacks, first = Stacks.of(params), theta["start"]
    averages = tuple(
        Averages(*(jnp.zeros((tensors, len(DECAYS), *shape)) for _ in range(2)))
        for tensors, shape in zip(stacks.counts, stacks.shapes, strict=True)
    )

    def repeated(x: Float[Array, " d"]) -> Float[Array, "d t"]:
        return jnp.tile(x[:, None], sum(stacks.counts))

    return TensorLSTMState(
        count=jnp.zeros((), jnp.int32),
        averages=averages,
        hidden=repeated(first["hidden"]),
        cell=repeated(first["cell"]),
        from_scalars=repeated(first["from_scalars"]),
        from_tensors=jnp.array(first["from_tensors"]),
        train_loss=LossAverage.zeros(),
        valid_loss=LossAverage.zeros(),
        gradient_size=jnp.float32(FIRST_SIZE),
    )


def _hear(
    state: TensorLSTMState, value: Any, eval_value: Any
) -> tuple[Float[Array, "2"], TensorLSTMState]:
    """The features of the training and of the validation loss, and the averages with both."""
    train = state.train_loss.step(TRAIN_DECAY, value)
    valid = state.valid_loss.step(VALID_DECAY, eval_value)
    mean, _ = valid.corrected(VALID_DECAY)
    features = [train.normalised(TRAIN_DECAY, loss) for loss in (value, mean)]
    return jnp.stack(features), state._replace(train_loss=train, valid_loss=valid)


def _bound(
    gradients: tuple[Array, ...], state: TensorLSTMState
) -> tuple[tuple[Array, ...], TensorLSTMState]:
    """Gradients within +-10 times their average root mean square, and that average after them."""
    steps = state.count.astype(jnp.float32) + 1.0
    bound = CLIP_MULTIPLE * state.gradient_size / (1.0 - CLIP_DECAY**steps)
    gradients = tuple(jnp.clip(clip_gradient(g), -bound, bound) for g in gradients)
    squares = [jnp.mean(jnp.square(g).reshape(len(g), -1), axis=1) for g in gradients]
    size = jnp.sqrt(1e-8 + jnp.mean(jnp.concatenate(squares)))
    size = CLIP_DECAY * state.gradient_size + (1.0 - CLIP_DECAY) * size
    return gradients, state._replace(gradient_size=size)


def _are_scalars(stacks: Stacks, params: Params) -> list[Float[Array, " n"]]:
    """For the tensors of each stack: 1 where it has rank 0, -1 elsewhere."""
    ranks = [jnp.ndim(leaf) for leaf in jax.tree.leaves(params)]
    return [jnp.array([-1.0 if ranks[i] else 1.0 for i in places]) for places in stacks.places]


def _tensor_features(
    losses: Float[Array, "2"],
    is_scalar: Float[Array, ""],
    gradient: Float[Array, "*s"],
    param: Float[Array, "*s"],
    averages: Averages,
) -> Float[Array, "18"]:
    """What the LSTM of a tensor reads beside its messages."""
    mean_m, var_m = _mean_and_variance(averages.momentum)
    mean_v, var_v = _mean_and_variance(averages.square)
    mean_p, var_p = _mean_and_variance(param)
    shape = (*param.shape, 1, 1, 1, 1)[:4]
    return jnp.stack(
        [
            _log_size(_norm(gradient)),
            is_scalar,
            _log_size(mean_m),
            jnp.sign(mean_m),
            _log_size(mean_v),
            jnp.sign(mean_v),
            _log_size(mean_p),
            jnp.sign(mean_p),
            _log_size(_norm(param)),
            *(jnp.log(jnp.array(shape, jnp.float32)) - 1.0),
            *losses,
            _log_size(var_m),
            _log_size(var_v),
            _log_size(var_p),
        ]
    )


def _scalar_features(gradient: Array, param: Array, momentum: Array, square: Array) -> list[Array]:
    """What the network of the scalars reads of each, to be normalised: 23 rows."""
    inverse = jax.lax.rsqrt(square + 1e-6)
    size = jnp.log(jnp.abs(param) + 1e-8)
    return [gradient, param, size, momentum, square, momentum * inverse, inverse]


def _step_tensors(
    theta: Theta,
    losses: Float[Array, "2"],
    are_scalars: list[Float[Array, " _"]],
    seen: list[tuple[Array, Array]],
    state: TensorLSTMState,
) -> TensorLSTMState:
    """New averages, a step of the LSTM of every tensor, and the message to all of them.

    are_scalars, seen (gradients, parameters): of each stack.
    """
    averages = tuple(
        jax.vmap(Averages.step)(old, gradients)
        for old, (gradients, _) in zip(state.averages, seen, strict=True)
    )
    features = [
        jax.vmap(partial(_tensor_features, losses))(kinds, *stack, means)
        for kinds, stack, means in zip(are_scalars, seen, averages, strict=True)
    ]
    rows = jnp.concatenate(features).T
    told = jnp.broadcast_to(state.from_tensors[:, None], (FROM_TENSORS, rows.shape[1]))
    inputs = jnp.concatenate([told, state.from_scalars, rows])
    hidden, cell = lstm(theta["lstm"], inputs, (state.hidden, state.cell))
    message = jnp.mean(affine(theta["to_tensors"], hidden), axis=1)
    return state._replace(averages=averages, hidden=hidden, cell=cell, from_tensors=message)


def _pair(layer: dict[str, Array]) -> tuple[Array, Array]:
    return layer["w"], layer["b"]


def _mean_and_variance(x: Array) -> tuple[Array, Array]:
    mean = jnp.mean(x)
    return mean, jnp.mean(jnp.square(x - mean))


def _norm(x: Array) -> Float[Array, ""]:
    """The root of the sum of squares, with derivative 0 at 0."""
    total = jnp.sum(jnp.square(x))
    return jnp.where(total > 0.0, jnp.sqrt(jnp.where(total > 0.0, total, 1.0)), 0.0)


def _log_size(x: Array) -> Array:
    return jnp.clip(jnp.log(1e-8 + jnp.abs(x)), -5.0, 5.0)
