"""What happens when a rule that reads a loss is given none."""

import inspect
import sys
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any, Literal

import optax

Loss = Literal["value", "eval_value"]

MISSING: dict[Loss, str] = {
    "value": "{name} reads the training loss and is given none; it runs without the "
    "features of the loss. Pass tx.update(grads, state, params, value=loss).",
    "eval_value": "{name} was made to read a validation loss and is given none; the training loss "
    "stands in for it. Pass tx.update(..., value=loss, eval_value=validation_loss), NaN at steps "
    "without one.",
}
# Whose frames stand between a user's line and ours.
_BETWEEN = ("learned_opt", "optax", "jax", "jaxtyping")


def can_miss_value(tx: optax.GradientTransformation) -> bool:
    """Whether the update of `tx`, as a rule makes it, reads the training loss but runs without it.

    Such an update has `value` among its arguments by name, with a default.
    """
    return "value" in inspect.signature(tx.update).parameters


def warn_of_missing(
    name: str, tx: optax.GradientTransformationExtraArgs, losses: Sequence[Loss]
) -> optax.GradientTransformationExtraArgs:
    """`tx`, which warns the first time that an update is given none of one of the `losses`.

    name: of the weights, for the message. What the rule does without is up to the rule. Inside jit
    the warning comes when the update is traced.
    """
    unseen = {*losses}

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        for loss in losses:
            if loss in unseen and extra.get(loss) is None:
                unseen.remove(loss)
                level = _level_of_user(sys._getframe())
                warnings.warn(MISSING[loss].format(name=name), stacklevel=level)
        return tx.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def _level_of_user(frame: FrameType) -> int:
    """The stacklevel, seen from `frame`, of the nearest line outside these libraries."""
    level = 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        level, frame = level + 1, frame.f_back
    return level
