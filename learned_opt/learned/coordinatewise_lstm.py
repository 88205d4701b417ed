"""The coordinatewise LSTM (Andrychowicz et al. 2016, 1606.04474): the first of the line.

The same two LSTM layers run for every scalar with a state of its own; they read its gradient and
say its move. Nothing is normalised and nothing is shared between scalars but the weights.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.base import Horizon, Params, Theta
from learned_opt.columns import Columns, tame
from learned_opt.learned.parts.blocks import each_column
from learned_opt.learned.parts.deep_lstm import (
    Layer,
    check_layers,
    deep_lstm,
    init_deep_lstm,
    start_deep_lstm,
)


class CoordinatewiseLSTMState(NamedTuple):
    """float32 whatever the parameters are; every field changes every step."""

    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class CoordinatewiseLSTM:
    """The rule's static choices: 5,141 weights and 80 numbers of state per parameter.

    layers: units of each LSTM layer. log_range: k, so that gradients within exp(-k) of 0 are read
    as numbers and larger ones as a logarithm over k and a sign; None gives the LSTM the gradient as
    it is. scale: a parameter moves by scale times what the LSTM says; a learning rate given to
    `opt` takes its place. Gradients are constants to whoever differentiates the run, as in the
    paper.
    """

    layers: tuple[int, ...] = (20, 20)
    log_range: float | None = 5.0
    scale: float = 0.01

    def __post_init__(self) -> None:
        check_layers(self.layers)
        for name in ("log_range", "scale"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name}: {value} is not allowed; it must be finite and above 0")

    def init(self, key: PRNGKeyArray) -> Theta:
        """Normal weights cut at two standard deviations of 1/sqrt(inputs), zero biases."""
        return init_deep_lstm(key, 1 if self.log_range is None else 2, self.layers)

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

        def init(params: Params) -> CoordinatewiseLSTMState:
            return CoordinatewiseLSTMState(start_deep_lstm(self.layers, Columns.of(params).total))

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
            del extra
            like = updates if params is None else params
            columns = Columns.of(like)
            gradient = jax.lax.stop_gradient(tame(columns.gather(updates, like)))
            moves, layers = each_column(
                self._step, columns, (theta, rate), (gradient, state.layers)
            )
            return columns.scatter(moves, like), CoordinatewiseLSTMState(layers)

        return optax.GradientTransformationExtraArgs(init, update)

    def _step(self, weights: Any, rows: Any) -> tuple[Float[Array, " n"], tuple[Layer, ...]]:
        (theta, rate), (gradient, layers) = weights, rows
        k = self.log_range
        inputs = gradient[None] if k is None else log_and_sign(gradient, k)
        outputs, layers = deep_lstm(theta, inputs, layers)
        return rate * outputs, layers


def log_and_sign(gradient: Float[Array, " n"], log_range: float) -> Float[Array, "2 n"]:
    """max(log(|g| + eps) / k, -1) and clip(exp(k) g, -1, 1): the size of a gradient and its sign.

    Up to eps, float32's spacing at 1, the paper's pair for p = k: (log |g| / p, sign g) from
    exp(-p) up, else (-1, exp(p) g).
    """
    size = jnp.log(jnp.abs(gradient) + jnp.finfo(jnp.float32).eps) / log_range
    return jnp.stack([jnp.maximum(size, -1.0), jnp.clip(math.exp(log_range) * gradient, -1.0, 1.0)])


_RELEASED = CoordinatewiseLSTM()
PRESETS: dict[str, CoordinatewiseLSTM] = {
    "released": _RELEASED,
    "paper": replace(_RELEASED, log_range=10.0, scale=0.1),
    "quadratic": replace(_RELEASED, log_range=None, scale=1.0),
}
