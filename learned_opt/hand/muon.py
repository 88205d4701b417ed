"""Muon: momentum of hidden matrices with its singular values pushed to one."""

import math
import re
from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from learned_opt.base import Params
from learned_opt.hand.assemble import Direction
from learned_opt.hand.hyperparameters import Scalar
from learned_opt.hand.parts.base import check_count
from learned_opt.hand.paths import check_pattern, path_of
from learned_opt.hand.spec import HandDesigned

# Found in a path, these mark tensors that look like matrices and are tables or outputs.
OTHERS = "embed|head|logits"


def _muon(
    beta: Scalar = 0.95,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    nesterov: bool = True,
    ns_steps: int = 5,
    consistent_rms: float | None = None,
    others: str = OTHERS,
):
    """Newton-Schulz on hidden matrices; NAdam (Adam without `nesterov`) on everything else.

    Hidden matrices: tensors of two axes or more whose path does not match `others`; all axes but
    the last are taken together, as flax has inputs. beta: momentum of matrices, bias-corrected
    within the Nesterov mix (the authors do not, and first steps differ by up to 0.09 an entry).
    b1, b2: of the others. Steps have spectral norm about sqrt(max(1, outputs / inputs)), or with
    consistent_rms (0.2 matches Adam's steps) that RMS.
    """
    check_count("ns_steps", ns_steps)
    check_pattern("others", others)

    def labels(params: Params) -> Params:
        return jax.tree_util.tree_map_with_path(label, params)

    def label(path: Any, leaf: Any) -> str:
        return "muon" if leaf.ndim >= 2 and not re.search(others, path_of(path)) else "adam"

    def sized(updates: Params, params: Any) -> Params:
        del params
        return jax.tree.map(lambda u: _size(u.shape, consistent_rms) * u, updates)

    matrices = scale_by_muon(
        ns_steps=ns_steps,
        beta=beta,
        eps=eps,
        nesterov=nesterov,
        weight_dimension_numbers=_dimensions,
    )
    rules: dict[Any, optax.GradientTransformation] = {
        "muon": optax.chain(matrices, optax.stateless(sized)),
        "adam": optax.scale_by_adam(b1, b2, eps, nesterov=nesterov),
    }
    return optax.partition(rules, labels)


def _dimensions(params: Params) -> Params:
    """Which axes of each tensor are inputs, and which is its output."""
    return jax.tree.map(
        lambda p: MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1), params
    )


def _size(shape: tuple[int, ...], consistent_rms: Any) -> Any:
    inputs, outputs = math.prod(shape[:-1]), shape[-1]
    if consistent_rms is None:
        return math.sqrt(max(1.0, outputs / inputs))
    return consistent_rms * math.sqrt(max(inputs, outputs))


ENTRIES = (
    HandDesigned(
        "muon",
        Direction(_muon),
        2e-2,
        source="Jordan et al. 2024, arXiv:2502.16982",
        formula="u = sqrt(max(1, outputs / inputs)) U V^T of the momentum; other tensors: nadam",
    ),
)
