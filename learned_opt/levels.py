"""The three-level recurrence: a GRU per scalar, one per tensor and one for the whole problem."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.cells import affine, bias_gru, init_affine, init_bias_gru
from learned_opt.columns import Columns

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


def step_levels(
    theta: dict[str, Any],
    columns: Columns,
    levels: Levels,
    x: Float[Array, "i n"],
    tensor_features: list[Float[Array, "_ t"]],
    upward: list[Float[Array, "_ n"]],
    global_input: str,
) -> Levels:
    """One step of all levels; every bias comes from the upper levels' previous states.

    x: inputs of the scalars. A tensor reads the mean over its scalars of their new states and of
    `upward`, and its own tensor_features; the problem reads the "mean" of the new tensor states,
    or the "last".
    """
    tensor, globe = levels.tensor, levels.globe
    shift: Any = 0.0
    if tensor is not None:
        from_above = affine(theta["tensor_to_param"], tensor)
        if globe is not None:
            from_above += affine(theta["global_to_param"], globe)
        shift = columns.spread(from_above)
    param = bias_gru(theta["param_cell"], x, levels.param, shift)
    if tensor is not None:
        below = columns.mean(jnp.concatenate([param, *upward]))
        shift = 0.0 if globe is None else affine(theta["global_to_tensor"], globe)
        tensor = bias_gru(
            theta["tensor_cell"], jnp.concatenate([below, *tensor_features]), tensor, shift
        )
        if globe is not None:
            last, mean = tensor[:, -1:], tensor.mean(axis=1, keepdims=True)
            globe = bias_gru(theta["global_cell"], last if global_input == "last" else mean, globe)
    return Levels(param, tensor, globe)
