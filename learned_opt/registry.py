"""Every optimizer by name: learned rules and hand-designed ones side by side."""

from collections.abc import Callable
from functools import partial
from numbers import Integral
from typing import Any

import optax

from learned_opt.base import DEFAULT_NUM_STEPS, HandDesigned, Horizon
from learned_opt.hand.relative_adam import relative_adam
from learned_opt.hierarchical_rnn import HierarchicalRNN
from learned_opt.naming import check_name
from learned_opt.small_fc import SmallFC

LEARNED: dict[str, type] = {
    "hierarchical_rnn": HierarchicalRNN,
    "small_fc": SmallFC,
}


def _steady(make: Callable[..., Any], learning_rate: float) -> Callable[..., Any]:
    """One of optax's, which plans for no length of training."""

    def build(learning_rate: Any = learning_rate, horizon: Horizon = 1, **hyperparameters: Any):
        del horizon
        return make(learning_rate, **hyperparameters)

    return build


HAND_DESIGNED: dict[str, HandDesigned] = {
    "adam": HandDesigned("adam", _steady(optax.adam, 1e-3), 1e-3),
    "adamw": HandDesigned("adamw", _steady(optax.adamw, 1e-3), 1e-3),
    "rmsprop": HandDesigned("rmsprop", _steady(optax.rmsprop, 1e-3), 1e-3),
    "sgd": HandDesigned("sgd", _steady(partial(optax.sgd, momentum=0.9), 1e-2), 1e-2),
    "relative_adam": HandDesigned("relative_adam", relative_adam, 0.1),
}


def check_num_steps(num_steps: int | None) -> int:
    """The length of the training run a rule plans for, an integer of at least 1; None is 10,000."""
    if num_steps is None:
        return DEFAULT_NUM_STEPS
    if not isinstance(num_steps, Integral) or isinstance(num_steps, bool) or num_steps < 1:
        raise ValueError(
            f"num_steps: {num_steps} is not allowed; it must be an integer, at least 1"
        )
    return int(num_steps)


def make(
    name: str, num_steps: int | None = None, **hyperparameters: Any
) -> optax.GradientTransformationExtraArgs:
    """A hand-designed optimizer as an optax transformation.

    name: one of HAND_DESIGNED. num_steps: length of the training run, for the rules whose schedule
    needs it (default 10,000; at least 1). hyperparameters: in optax's spelling.
    """
    check_name("optimizer", name, HAND_DESIGNED)
    build: Callable[..., optax.GradientTransformation] = HAND_DESIGNED[name].make
    return optax.with_extra_args_support(
        build(horizon=check_num_steps(num_steps), **hyperparameters)
    )
