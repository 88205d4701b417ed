"""GaLore: Adam in the space of a few left or right singular vectors of each matrix's gradient."""

from typing import Any

import jax
import optax
from optax.contrib import GaLoreDimensionNumbers, scale_by_galore

from learned_opt.base import Params
from learned_opt.hand.assemble import Direction
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.parts.base import check_count
from learned_opt.hand.spec import HandDesigned


def _galore(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    scale: Scalar = 1.0,
    rank: int = 128,
    update_proj_gap: int = 200,
):
    """rank: singular vectors kept. update_proj_gap: updates after which they are found anew.

    All axes of a tensor but the last are taken together; vectors have plain Adam.
    """
    check_count("rank", rank)
    check_count("update_proj_gap", update_proj_gap)
    fields: Any = {"scale": scale, "base_optimizer": optax.scale_by_adam(b1, b2, eps)}
    return scale_by_galore(rank, update_proj_gap, **fields, weight_dimension_numbers=_dimensions)


def _dimensions(params: Params) -> Params:
    return jax.tree.map(
        lambda p: (
            GaLoreDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1) if p.ndim >= 2 else None
        ),
        params,
    )


ENTRIES = (
    HandDesigned(
        "galore",
        Direction(_galore),
        1e-3,
        source="arXiv:2403.03507",
        formula="u = scale P adam(P^T g), P the first `rank` singular vectors of a recent g",
        ranges=(("scale", Hyperparameter("log", 0.1, 10.0, open=True)),),
    ),
)
