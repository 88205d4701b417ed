"""How published weights lie in their files, and in which leaf of a rule here each of them goes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from learned_opt.base import LearnedOptimizer
from learned_opt.learned.parts.moment_features import GROUPS

Shape = tuple[int, ...]
Leaves = dict[str, dict[str, Shape]]

NETWORK = "ff_mod_stack/~"


class Layout(NamedTuple):
    """leaves: of the rule's theta, each with the file's leaves it is made of, by their shapes.

    Several are joined along their last axis but one; then axes of size 1 may come or go.
    """

    rule: LearnedOptimizer
    leaves: Leaves

    def shapes(self) -> dict[str, Shape]:
        """Every leaf that the file must hold."""
        return {name: shape for pieces in self.leaves.values() for name, shape in pieces.items()}


def size(found: Mapping[str, Any], name: str, axis: int, otherwise: int) -> int:
    """How many entries a leaf has along an axis, where it is an array that has one."""
    shape = getattr(found.get(name), "shape", ())
    return shape[axis] if -len(shape) <= axis < len(shape) and shape[axis] else otherwise


def network(ours: str, hidden: int, *banks: int) -> Leaves:
    """The per-parameter network of the VeLO family, split by feature group in its first layer."""
    groups = {f"{NETWORK}/w0__{i}": (*banks, width, hidden) for i, width in enumerate(GROUPS)}
    shapes = {
        "b0": (*banks, hidden),
        "w1": (*banks, hidden, hidden),
        "b1": (*banks, hidden),
        "w2": (*banks, hidden, 3),
        "b2": (*banks, 3),
    }
    rest = {f"{ours}{name}": {f"{NETWORK}/{name}": shape} for name, shape in shapes.items()}
    return {f"{ours}w0": groups} | rest


def controller(ours: str, inputs: int, hidden: int, controls: int) -> Leaves:
    """The LSTM over tensors of the VeLO family; controls: of its first output, 0 for none."""
    layers = {
        "unread": ("linear", inputs, hidden),
        "message": ("linear_1", inputs, hidden),
        "own": ("linear_2", inputs, hidden),
        "lstm": ("rnn/linear", 2 * hidden, 4 * hidden),
        "step_size": ("step_size", hidden, 1),
    }
    if controls:
        layers["controls"] = ("rnn_to_controls", hidden, controls)
    leaves: Leaves = {
        f"{ours}start/{name}": {f"lstm_init_state/{name}": (1, hidden)}
        for name in ("hidden", "cell")
    }
    for name, (theirs, rows, columns) in layers.items():
        leaves[f"{ours}{name}/w"] = {f"rnn_params/{theirs}/w": (rows, columns)}
        leaves[f"{ours}{name}/b"] = {f"rnn_params/{theirs}/b": (columns,)}
    return leaves


def joined(layout: Layout, found: Mapping[str, np.ndarray], name: str, shape: Shape) -> np.ndarray:
    """One leaf of theta, from leaves that have the layout's shapes."""
    pieces = [found[theirs] for theirs in layout.leaves[name]]
    whole = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=-2)
    return np.ascontiguousarray(whole.reshape(shape))
