"""GaLore: Adam in the space of a few left or right singular vectors of each matrix's gradient."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import GaLoreDimensionNumbers, scale_by_galore

from learned_opt.base import Params
from learned_opt.branch import update_where
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
    adam, vectors = _every_other(rank, **fields), _every_other(rank)

    def found(old: Any, updates: Params) -> Any:
        del old
        start: Any = vectors.init(updates)
        state: Any = vectors.update(updates, start)[1]
        return state.projector

    # optax finds the vectors in a branch of its own, which under vmap would run at every update.
    # At an odd count its branch is never taken.
    def update(updates, state, params=None):
        del params
        due = state.count % update_proj_gap == 0
        projector = update_where(due, found, state.projector, updates)
        before = state._replace(count=jnp.int32(1), projector=projector)
        after: Any
        direction, after = adam.update(updates, before)
        return direction, after._replace(count=optax.safe_increment(state.count))

    return optax.GradientTransformation(adam.init, update)


def _every_other(rank: int, **fields: Any) -> optax.GradientTransformation:
    """Finds the vectors where the count of updates is even."""
    return scale_by_galore(rank, 2, weight_dimension_numbers=_dimensions, **fields)


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
