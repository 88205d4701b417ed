"""What happens when a rule that reads a validation loss is given none."""

import sys
import warnings
from types import FrameType
from typing import Any

import optax

# Whose frames stand between a user's line and ours.
_BETWEEN = ("learned_opt", "optax", "jax", "jaxtyping")


def warn_of_stand_in(
    name: str, tx: optax.GradientTransformationExtraArgs
) -> optax.GradientTransformationExtraArgs:
    """`tx`, which warns the first time that an update gets no `eval_value`.

    name: of the weights, for the message. That `value` stands in is up to the rule. Inside jit the
    warning comes when the update is traced.
    """
    warned = False

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        nonlocal warned
        if extra.get("eval_value") is None and not warned:
            warned = True
            warnings.warn(
                f"{name} was made to read a validation loss and is given none; the training loss "
                "stands in for it. Pass tx.update(..., value=loss, eval_value=validation_loss), "
                "NaN at steps without one.",
                stacklevel=_level_of_user(sys._getframe()),
            )
        return tx.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def _level_of_user(frame: FrameType) -> int:
    """The stacklevel, seen from `frame`, of the nearest line outside these libraries."""
    level = 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        level, frame = level + 1, frame.f_back
    return level
