"""The three-level recurrence: a GRU per scalar, one per tensor and one for the whole problem."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.columns import Columns
from learned_opt.learned.parts.cells import affine, bias_gru, init_affine, init_bias_gru

NAMES = ("param", "tensor", "global")


class Levels(NamedTuple):
    """States of the GRUs; N scalars, T tensors. A level that does not exist is None."""

    param: Float[Array, "k n"]
    tensor: Float[Array, "k t"] | None
    globe: Float[Array, "k 1"] | None


def init_levels(
    key: PRNGKeyArray,
    sizes: tuple[int, ...],
    inputs: int,
    tensor_inputs: int,
    cell_scale: float,
    gate_bias: float,
    affine_scale: float,
) -> dict[str, Any]:
    """Weights of the cells and of the biases that upper levels give to lower ones.

    sizes: hidden sizes, one to three. inputs, tensor_inputs: rows that the two lower cells read;
    the global one reads the tensors' states.
    """
    cells_key, biases_key = jax.random.split(key)
    widths = (inputs, tensor_inputs, sizes[1] if len(sizes) > 1 else 0)
    weights: dict[str, Any] = {
        f"{name}_cell": init_bias_gru(k, width, size, cell_scale, gate_bias)
        for name, width, size, k in zip(
            NAMES, widths, sizes, jax.random.split(cells_key, 3), strict=False
        )
    }
    for upper in range(1, len(sizes)):
        for lower in range(upper):
            key = jax.random.fold_in(biases_key, 3 * upper + lower)
            weights[f"{NAMES[upper]}_to_{NAMES[lower]}"] = init_affine(
                key, sizes[upper], 3 * sizes[lower], affine_scale
            )
    return weights


def draw_start(key: PRNGKeyArray, sizes: tuple[int, ...]) -> dict[str, Array]:
    """Initial states of the levels, uniform on (-1, 1)."""
    keys = jax.random.split(key, 3)
    return {
        name: jax.random.uniform(k, (size,), minval=-1.0, maxval=1.0)
        for name, size, k in zip(NAMES, sizes, keys, strict=False)
    }


def start_levels(first: dict[str, Array], columns: Columns) -> Levels:
    """Every scalar, every tensor and the problem in the same initial state."""
    counts = (columns.total, len(columns.sizes), 1)
    tiled = [
        jnp.tile(first[name][:, None], (1, n)) if name in first else None
        for name, n in zip(NAMES, counts, strict=True)
    ]
    return Levels(jnp.asarray(tiled[0]), tiled[1], tiled[2])


def shift_below(theta: dict[str, Any], levels: Levels, tensors: int) -> Float[Array, "b t"]:
    """What the upper levels' states add to the pre-activations of each tensor's scalars."""
    rows = 3 * levels.param.shape[0]
    shift = jnp.zeros((rows, tensors))
    if levels.tensor is not None:
        shift = affine(theta["tensor_to_param"], levels.tensor)
    if levels.globe is not None:
        shift = shift + affine(theta["global_to_param"], levels.globe)
    return shift


def step_above(
    theta: dict[str, Any],
    levels: Levels,
    below: list[Float[Array, "_ t"]],
    last: int | None,
) -> tuple[Float[Array, "k t"] | None, Float[Array, "k2 1"] | None]:
    """One step of the tensors' and the problem's state, shifted by the problem's previous one.

    below: what the tensors read. The problem reads the mean of the new tensor states, or the state
    of tensor `last`.
    """
    tensor, globe = levels.tensor, levels.globe
    if tensor is None:
        return None, None
    shift = 0.0 if globe is None else affine(theta["global_to_tensor"], globe)
    tensor = bias_gru(theta["tensor_cell"], below, tensor, shift)
    if globe is not None:
        read = tensor.mean(axis=1, keepdims=True) if last is None else tensor[:, last : last + 1]
        globe = bias_gru(theta["global_cell"], [read], globe)
    return tensor, globe
