"""The coordinatewise RNN in the code of the hierarchical one (Wichrowska et al. 2017, 1703.04813).

Two LSTM layers run for every scalar with a state of its own. They read its gradient over the root
of a running mean square, and return the decay of that mean, a direction, and a factor on the
scalar's learning rate. No scalar depends on any other.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.base import Horizon, Params, Theta
from learned_opt.columns import Columns, tame
from learned_opt.learned.parts.blocks import each_column
from learned_opt.learned.parts.cells import affine, init_affine
from learned_opt.learned.parts.deep_lstm import Layer, check_layers, step_layers
from learned_opt.learned.parts.features import arcsinh
from learned_opt.learned.parts.rates import start_rates, within_bounds

READOUT_SCALE = 0.5
DECAY_BIAS = 2.2  # the decay is about 0.9
LARGEST_LOG_RATE = 33.0


class CoordinatewiseRNNState(NamedTuple):
    """N scalars, float32 whatever the parameters are; every field changes every step."""

    square: Float[Array, " n"]  # running mean of the squared gradient
    decay: Float[Array, " n"]  # of `square`, at the next step
    log_rate: Float[Array, " n"]
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class CoordinatewiseRNN:
    """The rule's static choices: 5,182 weights and 83 numbers of state per parameter.

    layers: units of each LSTM layer. init_lr_range: rates at the start, log-uniform between the two
    where a key draws them, else their geometric middle. zero_init_lr_weights: fresh weights leave
    rates as they are. Defaults are those of the released class, where nothing bounds a rate; here
    it stays between exp(-33) and exp(33).
    """

    layers: tuple[int, ...] = (20, 20)
    init_lr_range: tuple[float, float] = (1.0, 1.0)
    zero_init_lr_weights: bool = False

    def __post_init__(self) -> None:
        check_layers(self.layers)
        low, high = self.init_lr_range
        if not 0.0 < low <= high < math.inf:
            raise ValueError(f"init_lr_range: {self.init_lr_range} must be 0 < low <= high")

    def init(self, key: PRNGKeyArray) -> Theta:
        """Fresh weights by the laws of the released code: a dict of float32 arrays."""
        cells_key, start_key, direction_key, decay_key, rate_key = jax.random.split(key, 5)
        draw = jax.nn.initializers.glorot_uniform()
        theta: dict[str, Any] = {"start": {}}
        for i, (width, units) in enumerate(zip((1, *self.layers), self.layers, strict=False)):
            own_key, own_start = (jax.random.fold_in(k, i) for k in (cells_key, start_key))
            weight = draw(own_key, (width + units, 4 * units))
            theta[f"lstm{i}"] = {"w": weight, "b": jnp.zeros(4 * units)}
            start = jax.random.uniform(own_start, (2, units), minval=-1.0, maxval=1.0)
            theta["start"][f"lstm{i}"] = start  # rows: hidden, cell
        units = self.layers[-1]
        rate_scale = 0.0 if self.zero_init_lr_weights else READOUT_SCALE
        return theta | {
            "direction": init_affine(direction_key, units, 1, READOUT_SCALE)["w"],
            "scale_decay": init_affine(decay_key, units, 1, READOUT_SCALE, DECAY_BIAS),
            "log_rate": init_affine(rate_key, units, 1, rate_scale),
        }

    def opt(
        self,
        theta: Theta,
        horizon: Horizon,
        key: PRNGKeyArray | None = None,
        learning_rate: float | Array | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        """The rule with weights `theta`; it reads gradients alone and no horizon.

        A key draws every scalar's first rate from init_lr_range; learning_rate fixes them instead.
        """
        del horizon

        def init(params: Params) -> CoordinatewiseRNNState:
            columns = Columns.of(params)
            return CoordinatewiseRNNState(
                square=jnp.ones(columns.total),
                decay=jnp.ones(columns.total),
                log_rate=start_rates(
                    columns,
                    self.init_lr_range,
                    LARGEST_LOG_RATE,
                    key,
                    learning_rate,
                    by_tensor=False,
                ),
                layers=tuple(
                    Layer(*jnp.tile(theta["start"][f"lstm{i}"][..., None], columns.total))
                    for i in range(len(self.layers))
                ),
            )

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
            del extra
            like = updates if params is None else params
            columns = Columns.of(like)
            gradient = tame(columns.gather(updates, like))
            moves, state = each_column(_step, columns, theta, (gradient, state))
            return columns.scatter(moves, like), state

        return optax.GradientTransformationExtraArgs(init, update)


def _step(
    theta: Theta, rows: tuple[Float[Array, " n"], CoordinatewiseRNNState]
) -> tuple[Float[Array, " n"], CoordinatewiseRNNState]:
    """At a run's first step, decay and mean square are 1: the gradient is read in its own unit."""
    gradient, state = rows
    square = (1.0 - state.decay) * (jnp.square(gradient) + 1e-12) + state.decay * state.square
    scaled = arcsinh(gradient * jax.lax.rsqrt(square + 1e-16))
    layers = step_layers(theta, scaled[None], state.layers)
    hidden = layers[-1].hidden
    # The rate is multiplied by 2 sigmoid(w^T hidden + b).
    change = math.log(2.0) + jax.nn.log_sigmoid(affine(theta["log_rate"], hidden)[0])
    log_rate = within_bounds(state.log_rate + change, LARGEST_LOG_RATE)
    decay = jax.nn.sigmoid(affine(theta["scale_decay"], hidden)[0])
    move = -jnp.exp(log_rate) * (theta["direction"].T @ hidden)[0]
    return move, CoordinatewiseRNNState(square, decay, log_rate, layers)
