"""One small network for every scalar of a tensor, without a table of its inputs in memory."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Up to here one fused loop over scalars holds the whole network in registers.
LARGEST_UNROLLED = 8
CHUNK = 8192

Layers = list[tuple[Array, Array]]  # (weight [inputs, outputs], bias [outputs]) of each
Features = Callable[..., list[Array]]


def scalar_network(
    layers: Layers, features: Features, base: list[Array], shape: tuple[int, ...]
) -> list[Float[Array, "*s"]]:
    """The outputs of a ReLU network that every scalar of one tensor goes through, one array each.

    base: arrays [rows, *shape], with size 1 along axes they are the same on. features: a top-level
    function of the entries of base, or a partial of one with hashable arguments; gives the inputs
    as arrays [rows, *shape] of the same kind, in the order of the first weight's rows.
    """
    hidden = max(weight.shape[1] for weight, _ in layers)
    forward = _scalar_by_scalar if hidden <= LARGEST_UNROLLED else _in_chunks
    return forward(layers, base, features, shape)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _scalar_by_scalar(
    layers: Layers, base: list[Array], features: Features, shape: tuple[int, ...]
) -> list[Array]:
    """The network unit by unit, each an array of the tensor's shape: XLA fuses it into one loop.

    Features that are the same along an axis are summed before they are spread over it. Derivatives
    are those of the matrix form: through single units they take minutes to compile.
    """
    (weight, bias), *deeper = layers
    rows = [row for group in features(*base) for row in group]
    sums: list[dict[tuple[int, ...], Any]] = []
    for unit in range(weight.shape[1]):
        by_shape: dict[tuple[int, ...], Any] = {}
        for i, row in enumerate(rows):
            by_shape[row.shape] = by_shape.get(row.shape, 0.0) + weight[i, unit] * row
        sums.append(by_shape)
    x = [sum(parts.values(), bias[unit]) for unit, parts in enumerate(sums)]
    for weight, bias in deeper:
        x = [jnp.maximum(row, 0.0) for row in x]
        x = [
            sum((weight[i, unit] * row for i, row in enumerate(x)), bias[unit])
            for unit in range(weight.shape[1])
        ]
    return [jnp.broadcast_to(row, shape) for row in x]


@_scalar_by_scalar.defjvp
def _scalar_by_scalar_jvp(
    features: Features, shape: tuple[int, ...], primals: Any, tangents: Any
) -> tuple[list[Array], list[Array]]:
    def forward(layers: Layers, base: list[Array]) -> list[Array]:
        return _in_chunks(layers, base, features, shape)

    return jax.jvp(forward, primals, tangents)


def pooled_network(
    layers: Layers,
    pooled: tuple[Array, Array],
    features: Features,
    base: list[Array],
    shape: tuple[int, ...],
) -> tuple[list[Float[Array, "*s"]], Float[Array, " m"]]:
    """As `scalar_network` for many units, with further outputs averaged over the tensor.

    pooled: weight and bias of the layer that makes those of the last hidden one; it is applied once
    to the mean of the hidden units, instead of to every scalar.
    """
    outputs, hidden = _hidden_in_chunks(layers, base, features, shape)
    weight, bias = pooled
    return outputs, weight.T @ hidden + bias


def _in_chunks(
    layers: Layers, base: list[Array], features: Features, shape: tuple[int, ...]
) -> list[Array]:
    """The network as matrices over [feature, scalar], a chunk of scalars at a time."""
    return _hidden_in_chunks(layers, base, features, shape)[0]


def _hidden_in_chunks(
    layers: Layers, base: list[Array], features: Features, shape: tuple[int, ...]
) -> tuple[list[Array], Float[Array, " h"]]:
    """As `_in_chunks`, with the means over the scalars of what the last layer reads."""
    table = jnp.concatenate([jnp.broadcast_to(x, (x.shape[0], *shape)) for x in base])
    sizes = [x.shape[0] for x in base]
    starts = [sum(sizes[:i]) for i in range(1, len(sizes))]

    def forward(columns: Float[Array, "r c"]) -> tuple[Float[Array, "o c"], Float[Array, " h"]]:
        x = jnp.concatenate(features(*jnp.split(columns, starts)))
        read = x
        for i, (weight, bias) in enumerate(layers):
            read = jnp.maximum(x, 0.0) if i else x
            x = weight.T @ read + bias[:, None]
        return x, jnp.sum(read, axis=1)

    table = table.reshape(table.shape[0], -1)
    total, outputs = table.shape[1], layers[-1][0].shape[1]
    whole = total // CHUNK * CHUNK
    found = [forward(table[:, whole:])] if whole < total else []
    if whole:
        chunks = table[:, :whole].reshape(table.shape[0], -1, CHUNK).swapaxes(0, 1)
        out, sums = jax.lax.map(forward, chunks)
        found.insert(0, (out.swapaxes(0, 1).reshape(outputs, -1), jnp.sum(sums, axis=0)))
    outs, sums = zip(*found, strict=True)
    out = jnp.concatenate(outs, axis=1).reshape(outputs, *shape)
    return list(out), jnp.sum(jnp.stack(sums), axis=0) / total
