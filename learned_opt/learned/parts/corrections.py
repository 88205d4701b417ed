"""What learned rules change in the step of an anchor: its mix of directions, its length, itself."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_opt.anchors.base import B1, EPS, Anchor, tensor_size
from learned_opt.anchors.rule import moves, step_along, trained
from learned_opt.base import Params

LOG_STEP_RANGE = (-2.0, 1.5)
AGREEMENT_DECAY = 0.95


def corrected_updates(
    anchor: Anchor[Any],
    params: Params,
    pace: Float[Array, ""],
    tensors: Sequence[Any],
    directions: Sequence[Sequence[Float[Array, "*_"]]],
    readouts: Sequence[Float[Array, " r"]],
    residuals: Sequence[Float[Array, "*_"]],
    log_steps: Sequence[Float[Array, "*_"]],
) -> Params:
    """The `corrected_step` of every trained leaf, zero elsewhere.

    pace: with the rate in it. The others have an entry for each trained leaf, in order.
    """
    leaves = trained(params)
    each = zip(tensors, directions, leaves, readouts, residuals, log_steps, strict=True)
    return moves(params, [corrected_step(anchor, pace, *one) for one in each])


def corrected_step(
    anchor: Anchor[Any],
    pace: Float[Array, ""],
    tensor: Any,
    directions: Sequence[Float[Array, "*s"]],
    param: Float[Array, "*s"],
    readout: Float[Array, " r"],
    residual: Float[Array, "*s"],
    log_step: Float[Array, "*s"],
) -> Float[Array, "*s"]:
    """What one tensor moves by; with all corrections 0 it is the anchor's step, bit for bit.

    -pace exp(clip(a + b)) (size(p) (back(sum_k (w_k + c_k) u_k) + RMS(u_1) r) + decay p), with
    w = (1, 0, 0). tensor: its state. readout: a and c, of the tensor. residual, log_step: r and b,
    of each of its scalars.
    """
    step = step_along(anchor, tensor, mixed(directions, readout[1:]), param, pace)
    step = step - (pace * (tensor_size(param) * length(directions[0]))) * residual
    return jnp.exp(jnp.clip(readout[0] + log_step, *LOG_STEP_RANGE)) * step


def mixed(
    directions: Sequence[Float[Array, "*s"]], changes: Float[Array, " k"]
) -> Float[Array, "*s"]:
    """The anchor's own direction, the first, with so much of each direction added."""
    found = directions[0]
    for change, u in zip(changes, directions, strict=True):
        found = found + change * u
    return found


def length(direction: Float[Array, "*s"]) -> Float[Array, ""]:
    """Root mean square."""
    return jnp.sqrt(jnp.mean(jnp.square(direction)) + EPS)


def with_agreement(
    before: Float[Array, " t"],
    directions: Sequence[Sequence[Array]],
    count: Int[Array, ""],
) -> Float[Array, " t"]:
    """Running cosines of each tensor's gradient with the average of those before it.

    directions: of each tensor, the anchor's own first and the gradient itself last. count: updates
    made, with this one.
    """
    if not directions:
        return before
    now = jnp.stack(
        [
            _cosine(raw, (1.0 - B1**count) * averaged - (1.0 - B1) * raw)
            for averaged, *_, raw in directions
        ]
    )
    now = jnp.where(count == 1, 0.0, now)  # nothing was before, but for rounding
    return AGREEMENT_DECAY * before + (1.0 - AGREEMENT_DECAY) * now


def _cosine(x: Float[Array, "*s"], y: Float[Array, "*s"]) -> Float[Array, ""]:
    """Of the angle between two directions; 0 where one of them is 0."""
    return jnp.mean(x * y) / (length(x) * length(y))
