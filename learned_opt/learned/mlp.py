"""The plain per-parameter network: gradient, parameter and momenta (2203.11860's MLPLOpt)."""

from dataclasses import dataclass

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.base import Horizon, Theta
from learned_opt.checks import check_above_zero, check_at_least_one
from learned_opt.learned.parts.features import TIMES, accumulate, time_features
from learned_opt.learned.parts.perceptron import init_perceptron, perceptron
from learned_opt.learned.parts.tensorwise import tensorwise

DECAYS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)


@dataclass(frozen=True)
class MLP:
    """The rule's static choices; 1,762 weights with the published hidden size 32.

    hidden: units of each of the two hidden layers. exp_mult, step_mult: a parameter moves by
    -step_mult * direction * exp(exp_mult * magnitude); a learning rate given to `opt` takes the
    place of step_mult. State: 6 floats a parameter.
    """

    hidden: int = 32
    exp_mult: float = 0.001
    step_mult: float = 0.001

    def __post_init__(self) -> None:
        check_at_least_one(self, "hidden")
        check_above_zero(self, "exp_mult", "step_mult")

    def init(self, key: PRNGKeyArray) -> Theta:
        """Normal weights cut at two standard deviations of 1/sqrt(inputs), zero biases."""
        sizes = (2 + len(DECAYS) + len(TIMES), self.hidden, self.hidden, 2)
        return init_perceptron(key, sizes)

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

        def step(
            momentum: Float[Array, "k *s"],
            gradient: Float[Array, "*s"],
            param: Float[Array, "*s"],
            count: Array,
        ) -> tuple[Float[Array, "*s"], Float[Array, "k *s"]]:
            momentum = accumulate(jnp.array(DECAYS), momentum, gradient)
            base, clock = [gradient[None], param[None], momentum], time_features(count)
            direction, magnitude = perceptron(theta, _features, base, param.shape, clock)
            return -rate * direction * jnp.exp(self.exp_mult * magnitude), momentum

        return tensorwise("mlp", _fresh, step)


def _fresh(tensors: int, shape: tuple[int, ...]) -> Float[Array, "t k *s"]:
    return jnp.zeros((tensors, len(DECAYS), *shape))


def _features(gradient: Array, param: Array, momentum: Array) -> list[Array]:
    """The 8 features in their order, by groups."""
    return [gradient, param, momentum]
