"""RNNprop (Lv et al. 2017, 1703.03033): a coordinatewise LSTM that reads what Adam would do.

It sees the gradient and its average in units of the gradient's usual size, so the size of the loss
does not matter to it, and says a bounded move. Its authors train it on parameters in random units,
each in its own: the augmentation {kind: reparametrise, level: parameter, range: [0.05, 20.0]}.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learned_opt.base import Horizon, Params, Theta
from learned_opt.columns import Columns, tame
from learned_opt.learned.parts.blocks import each_column
from learned_opt.learned.parts.cells import affine, init_linear
from learned_opt.learned.parts.deep_lstm import (
    Layer,
    check_layers,
    deep_lstm,
    init_deep_lstm,
    start_deep_lstm,
)


class _Scalars(NamedTuple):
    """The state of the scalars: a row or several of each."""

    average: Float[Array, " n"]  # of the gradient
    square: Float[Array, " n"]  # of its square
    layers: tuple[Layer, ...]


class RNNpropState(NamedTuple):
    """float32 whatever the parameters are; every field changes every step."""

    count: Int[Array, ""]  # updates made so far
    scalars: _Scalars


@dataclass(frozen=True)
class RNNprop:
    """The rule's static choices: 6,641 weights and 82 numbers of state per parameter.

    dense: ELU units between the inputs and the LSTM. layers: units of each LSTM layer. b1, b2, eps:
    Adam's. scale: a parameter moves by -scale tanh of what the LSTM says; a learning rate given to
    `opt` takes its place. Defaults are those of the released code. Gradients are constants to
    whoever differentiates the run.
    """

    dense: int = 20
    layers: tuple[int, ...] = (20, 20)
    b1: float = 0.95
    b2: float = 0.95
    eps: float = 1e-8
    scale: float = 0.1

    def __post_init__(self) -> None:
        check_layers(self.layers)
        if self.dense < 1:
            raise ValueError(f"dense: {self.dense} is not allowed; it must be at least 1")
        for name in ("b1", "b2"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name}: {getattr(self, name)} is not allowed; 0 <= {name} < 1")
        for name in ("eps", "scale"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name}: {value} is not allowed; it must be finite and above 0")

    def init(self, key: PRNGKeyArray) -> Theta:
        """Normal weights cut at two standard deviations of 1/sqrt(inputs), zero biases."""
        dense_key, lstm_key = jax.random.split(key)
        dense = init_linear(dense_key, 2, self.dense)
        return {"dense": dense} | init_deep_lstm(lstm_key, self.dense, self.layers)

    def opt(
        self,
        theta: Theta,
        horizon: Horizon,
        key: PRNGKeyArray | None = None,
        learning_rate: float | Array | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        """The rule with weights `theta`; it reads gradients alone, no horizon and no key."""
        del horizon, key
        rate = self.scale if learning_rate is None else learning_rate

        def init(params: Params) -> RNNpropState:
            n = Columns.of(params).total
            scalars = _Scalars(jnp.zeros(n), jnp.zeros(n), start_deep_lstm(self.layers, n))
            return RNNpropState(jnp.zeros((), jnp.int32), scalars)

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
            del extra
            like = updates if params is None else params
            columns = Columns.of(like)
            gradient = jax.lax.stop_gradient(tame(columns.gather(updates, like)))
            count = state.count + 1
            weights, rows = (theta, rate, count), (gradient, state.scalars)
            moves, scalars = each_column(self._step, columns, weights, rows)
            return columns.scatter(moves, like), RNNpropState(count, scalars)

        return optax.GradientTransformationExtraArgs(init, update)

    def _step(self, weights: Any, rows: Any) -> tuple[Float[Array, " n"], _Scalars]:
        (theta, rate, count), (gradient, scalars) = weights, rows
        average = self.b1 * scalars.average + (1.0 - self.b1) * gradient
        square = self.b2 * scalars.square + (1.0 - self.b2) * jnp.square(gradient)
        usual = jnp.sqrt(square / (1.0 - self.b2**count)) + self.eps
        inputs = jnp.stack([gradient, average / (1.0 - self.b1**count)]) / usual
        said, layers = deep_lstm(theta, jax.nn.elu(affine(theta["dense"], inputs)), scalars.layers)
        return -rate * jnp.tanh(said), _Scalars(average, square, layers)
