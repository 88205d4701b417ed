"""The nominal rule: Adam's direction, sized relative to each tensor, under a fixed schedule."""

import optax
from jaxtyping import Array

from learned_opt.anchors.base import B1, RATE
from learned_opt.anchors.relative_adam import RelativeAdam
from learned_opt.anchors.rule import as_transformation
from learned_opt.base import Horizon
from learned_opt.hand.hyperparameters import Scalar
from learned_opt.hand.spec import HandDesigned


def relative_adam(
    learning_rate: float | Array = RATE,
    horizon: Horizon = 1,
    b1: Scalar = B1,
    weight_decay: Scalar = 0.0,
    cautious: bool = True,
) -> optax.GradientTransformation:
    """p <- p - learning_rate s(t) (max(RMS(p), 0.05) m_hat / (sqrt(v_hat) + 1e-12) + decay p).

    learning_rate: relative step, 0.1 by default and meant to be left alone. horizon: T of the
    schedule, at least 1. weight_decay: of tensors of rank 2 and more, in units of the rule's own
    step. cautious: only entries that the direction shrinks too decay (2510.12402). Moments are
    Adam's, bias-corrected, with b2 = 0.99, in float32 whatever the parameters are. Non-finite
    gradient entries count as zero; integer leaves never move. Complex leaves raise ValueError.
    """
    return as_transformation(RelativeAdam(weight_decay, cautious), learning_rate, horizon, b1)


ENTRIES = (
    HandDesigned(
        "relative_adam",
        relative_adam,
        RATE,
        source="this package",
        formula="u = s(t) max(RMS(p), 0.05) m_hat / (sqrt(v_hat) + 1e-12), b2 = 0.99",
        needs=("params",),
    ),
)
