"""One LSTM for every tensor, one network for every scalar (Metz et al. 2020, 2009.11243).

The LSTM reads statistics of its tensor, the training and the validation loss, and two messages as
they were a step before: one from the scalars of its tensor, one from all tensors. Its outputs
are inputs of the network of the scalars, which returns a direction and a log magnitude for every
scalar, and the next message to the LSTM, a mean over the tensor.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learned_opt.anchors.base import NUM_DIRECTIONS, RATE, Plan
from learned_opt.anchors.relative_adam import RelativeAdam
from learned_opt.anchors.relative_soap import RelativeSoap
from learned_opt.anchors.rule import start_tensors
from learned_opt.base import Horizon, Params, Theta
from learned_opt.learned.parts.cells import affine, init_linear, init_lstm, lstm
from learned_opt.learned.parts.corrections import corrected_updates
from learned_opt.learned.parts.features import TIMES, accumulate, clip_gradient, normaliser
from learned_opt.learned.parts.losses import LossAverage, one_number
from learned_opt.learned.parts.scalar_network import pooled_network
from learned_opt.learned.parts.stacks import Stacks

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
    tensors: tuple[Any, ...]  # of the anchor, for each trained leaf


@dataclass(frozen=True)
class TensorLSTM:
    """The rule's static choices; 35,799 weights as published.

    anchor: None moves a parameter by -step_mult * direction * exp(exp_mult * magnitude), as
    published. Otherwise both numbers correct the anchor's step, with a readout of the LSTM beside
    them; the anchor's gradients are bounded too, by ten times their usual size. A learning rate
    given to `opt` takes the place of step_mult, or of the anchor's 0.1. hidden: units of each of
    the two hidden layers of the scalars' network. lstm_hidden: units of the LSTM.
    """

    reads_eval_value: ClassVar[bool] = True
    anchor: RelativeAdam | RelativeSoap | None = None
    hidden: int = 32
    lstm_hidden: int = 64
    exp_mult: float = 0.001
    step_mult: float = 0.001

    def __post_init__(self) -> None:
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

        The LSTM starts at rest, the messages at random. Over an anchor readouts are a hundredth of
        that: fresh weights are nearly the anchor.
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
        if self.anchor is not None:
            theta["tensor_readout"] = init_linear(keys[9], k, 1 + NUM_DIRECTIONS)
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
        """The rule with weights `theta`; it reads no key, and the horizon for an anchor only.

        `update` reads `value`, the training loss, and `eval_value`, the loss on validation data;
        without `eval_value`, `value` stands in for it. A loss that is not finite counts as none:
        its average stays as it is.
        """
        del key
        rate = learning_rate
        if rate is None:
            rate = self.step_mult if self.anchor is None else RATE

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
            said, messages = _ask(theta, stacks, seen, state)
            state = state._replace(count=state.count + 1, from_scalars=messages)
            if self.anchor is None:
                moves = [-rate * d * jnp.exp(self.exp_mult * magnitude) for d, magnitude in said]
                return stacks.scatter(moves, params), state
            pace = rate * self.anchor.pace(Plan(horizon, stacks.scalars), state.count)
            return _corrected(theta, self.anchor, stacks, gradients, said, params, pace, state)

        return optax.GradientTransformationExtraArgs(partial(_start, theta, self.anchor), update)


PRESETS = {"paper": TensorLSTM(), "nominal": TensorLSTM(RelativeAdam())}


def _start(
    theta: Theta, anchor: RelativeAdam | RelativeSoap | None, params: Params
) -> TensorLSTMState:
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
        tensors=() if anchor is None else start_tensors(anchor, params, anchor.momenta()),
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
    from_tensors = jnp.broadcast_to(state.from_tensors[:, None], (FROM_TENSORS, rows.shape[1]))
    inputs = jnp.concatenate([from_tensors, state.from_scalars, rows])
    hidden, cell = lstm(theta["lstm"], inputs, (state.hidden, state.cell))
    message = jnp.mean(affine(theta["to_tensors"], hidden), axis=1)
    return state._replace(averages=averages, hidden=hidden, cell=cell, from_tensors=message)


def _ask(
    theta: Theta, stacks: Stacks, seen: list[tuple[Array, Array]], state: TensorLSTMState
) -> tuple[list[tuple[Array, Array]], Float[Array, "16 t"]]:
    """Of each stack what the network says of the scalars, and the messages to all LSTMs."""
    network = partial(_scalar_outputs, theta, state.count, sum(stacks.counts))
    hidden = stacks.split(state.hidden.T)
    made = [
        jax.vmap(network)(rows, *stack, averages)
        for rows, stack, averages in zip(hidden, seen, state.averages, strict=True)
    ]
    return [said for said, _ in made], jnp.concatenate([message for _, message in made]).T


def _scalar_outputs(
    theta: Theta,
    count: Int[Array, ""],
    tensors: int,
    hidden: Float[Array, " k"],
    gradient: Float[Array, "*s"],
    param: Float[Array, "*s"],
    averages: Averages,
) -> tuple[tuple[Float[Array, "*s"], Float[Array, "*s"]], Float[Array, "16"]]:
    """For one tensor: direction and magnitude of every scalar, and the message to its LSTM.

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
    return (direction, magnitude), message


def _corrected(
    theta: Theta,
    anchor: RelativeAdam | RelativeSoap,
    stacks: Stacks,
    gradients: tuple[Array, ...],
    said: list[tuple[Array, Array]],
    params: Params,
    pace: Float[Array, ""],
    state: TensorLSTMState,
) -> tuple[Params, TensorLSTMState]:
    """The anchor's updates with the corrections of all scalars and of their LSTMs."""
    seen = stacks.apart(gradients, params)
    tensors, directions = anchor.step(state.tensors, seen, state.count, anchor.momenta())
    readouts = stacks.split(affine(theta["tensor_readout"], state.hidden).T)
    residuals, log_steps = (stacks.apart(found, params) for found in zip(*said, strict=True))
    moved = corrected_updates(
        anchor,
        params,
        pace,
        tensors,
        directions,
        stacks.entries(readouts),
        residuals,
        log_steps,
    )
    return moved, state._replace(tensors=tuple(tensors))


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
