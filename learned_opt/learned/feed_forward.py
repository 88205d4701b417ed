"""The per-parameter feed-forward optimizer of 2018 (Metz et al., 1810.10180).

The gradient, the parameter, averages of the gradient at five timescales and the time go through
one hidden layer. The released code reads averages of g^2 too but leaves them at 0 for good; the
follow-up (2009.11243) turned them on.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.base import Horizon, Theta
from learned_opt.checks import check_above_zero, check_at_least_one
from learned_opt.learned.parts.features import accumulate, time_features
from learned_opt.learned.parts.perceptron import init_perceptron, perceptron
from learned_opt.learned.parts.tensorwise import tensorwise

DECAYS = (0.5, 0.9, 0.99, 0.999, 0.9999)
TIMES = (3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e5)  # the last is 3e5 in the released code
TENSOR_FEATURES = 2 + 4 * len(DECAYS)


class _Averages(NamedTuple):
    momentum: Array  # of g, [k, *shape]
    square: Array | None  # of g^2; None: zeros


@dataclass(frozen=True)
class FeedForward:
    """The rule's static choices; 1,090 weights with the released hidden size 32.

    hidden: units of the hidden layer. exp_mult, step_mult: a parameter moves by -step_mult *
    direction * exp(exp_mult * magnitude); a learning rate given to `opt` takes the place of
    step_mult. dead_rms: the averages of g^2 stay 0, as in the released code, which weights trained
    there need; the features 1 / sqrt(0 + 1e-6) and momentum times it are then 1,000 and 1,000 times
    the momentum. State: 5 floats a parameter, 10 with living averages.
    """

    hidden: int = 32
    exp_mult: float = 0.001
    step_mult: float = 0.001
    dead_rms: bool = True

    def __post_init__(self) -> None:
        check_at_least_one(self, "hidden")
        check_above_zero(self, "exp_mult", "step_mult")

    def init(self, key: PRNGKeyArray) -> Theta:
        """Normal weights cut at two standard deviations of 1/sqrt(inputs), zero biases."""
        return init_perceptron(key, (TENSOR_FEATURES + len(TIMES), self.hidden, 2))

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

        def fresh(tensors: int, shape: tuple[int, ...]) -> _Averages:
            whole = (tensors, len(DECAYS), *shape)
            return _Averages(jnp.zeros(whole), None if self.dead_rms else jnp.zeros(whole))

        def step(
            averages: _Averages,
            gradient: Float[Array, "*s"],
            param: Float[Array, "*s"],
            count: Array,
        ) -> tuple[Float[Array, "*s"], _Averages]:
            averages = _remember(averages, gradient)
            square = averages.square
            if square is None:
                square = jnp.zeros((len(DECAYS), *(1,) * param.ndim))
            base = [gradient[None], param[None], averages.momentum, square]
            clock = time_features(count, TIMES)
            direction, magnitude = perceptron(theta, _features, base, param.shape, clock)
            return -rate * direction * jnp.exp(self.exp_mult * magnitude), averages

        return tensorwise("feed_forward", fresh, step)


PRESETS: dict[str, FeedForward] = {
    "released": FeedForward(),
    "repaired": FeedForward(dead_rms=False),
}


def _remember(averages: _Averages, gradient: Array) -> _Averages:
    decays, square = jnp.array(DECAYS), averages.square
    if square is not None:
        square = accumulate(decays, square, jnp.square(gradient))
    return _Averages(accumulate(decays, averages.momentum, gradient), square)


def _features(gradient: Array, param: Array, momentum: Array, square: Array) -> list[Array]:
    """The 22 features in their order, by groups."""
    inverse = jax.lax.rsqrt(square + 1e-6)
    return [gradient, momentum * inverse, param, momentum, square, inverse]
