"""The strongest untuned rule here: SOAP's direction, sized relative to each tensor."""

from typing import cast, get_args

import optax
from jaxtyping import Array

from learned_opt.anchors.base import B1, RATE
from learned_opt.anchors.relative_soap import RelativeSoap
from learned_opt.anchors.rotation import Method
from learned_opt.anchors.rule import as_transformation
from learned_opt.base import Horizon
from learned_opt.hand.hyperparameters import Scalar
from learned_opt.hand.parts.base import check_count
from learned_opt.hand.spec import HandDesigned
from learned_opt.naming import check_name


def relative_soap(
    learning_rate: float | Array = RATE,
    horizon: Horizon | None = None,
    b1: Scalar = B1,
    b2: Scalar = 0.95,
    b3: Scalar = 0.95,
    weight_decay: Scalar = 0.1,
    cautious: bool = True,
    update_interval: int = 5,
    max_dim: int = 64,
    one_side: bool = False,
    spread: bool = False,
    method: str = "qr",
    anytime: bool = False,
) -> optax.GradientTransformation:
    """p <- p - learning_rate pace(t) (max(RMS(p), 0.05) u + weight_decay p), needing no tuning.

    u is Adam's direction in the eigenbasis of the averages of the products of gradients, turned
    back. pace(t) is min(3, (1000 / T)^0.6, 28 N^-0.25), N the scalars that are trained, under a
    warm-up over 3% of the T updates and a quadratic decay to zero; without a length it is
    min(0.3 (1000 / (t + 30))^0.6, 28 N^-0.25) after a warm-up over 30, and the point to evaluate is
    a running average.

    learning_rate: relative step at T = 1000, meant to be left alone. horizon: T, at least 1; None
    where it is not known. b1, b2, b3: decays of the averages of gradients, of their squares in the
    basis, and of their products. weight_decay: in units of the rule's own step; on tensors of rank
    2 and more. cautious: only entries that the direction shrinks too decay (2510.12402).
    update_interval: updates between two refreshes of the basis. max_dim: the largest block that
    rotates; longer axes are cut into equal blocks. one_side: rotates the shorter axis of each
    tensor only. spread: refreshes one tensor after the other. method: "qr", or "jacobi", by matrix
    products only. anytime: takes the form without a length whatever `horizon` is.

    Tensors of rank 0 and 1 get Adam's direction. Non-finite gradient entries count as zero, entries
    that never had a gradient and integer leaves do not move. Complex leaves raise ValueError.
    """
    check_count("update_interval", update_interval)
    check_count("max_dim", max_dim)
    check_name("method", method, get_args(Method))
    anchor = RelativeSoap(
        weight_decay,
        cautious,
        b2,
        b3,
        update_interval,
        max_dim,
        one_side,
        spread,
        cast(Method, method),
    )
    return as_transformation(anchor, learning_rate, None if anytime else horizon, b1)


ENTRIES = (
    HandDesigned(
        "relative_soap",
        relative_soap,
        RATE,
        source="this package",
        formula="u = pace(t) (max(RMS(p), 0.05) Q adam's u of (m, Q^T g) + weight_decay p)",
        needs=("params",),
        anytime=True,
    ),
)
