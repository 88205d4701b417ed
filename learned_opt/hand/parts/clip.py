"""Bounds on the gradient: by value, by norm, by block."""

import optax

from learned_opt.hand.hyperparameters import HYPERPARAMETERS
from learned_opt.hand.parts.base import Part

_BOUND = HYPERPARAMETERS["max_norm"]
PARTS = {
    "clip": Part(
        "gradient",
        lambda max_delta=1.0: optax.clip(max_delta),
        "every entry bounded",
        ranges={"max_delta": _BOUND},
    ),
    "clip_by_global_norm": Part(
        "gradient", lambda max_norm=1.0: optax.clip_by_global_norm(max_norm), "norm of the tree"
    ),
    "clip_by_block_rms": Part(
        "gradient",
        lambda threshold=1.0: optax.clip_by_block_rms(threshold),
        "RMS of each leaf",
        ranges={"threshold": _BOUND},
    ),
}
