"""The small per-parameter network on Adafactor-style features (Metz et al. 2022, 2203.11860).

One network of two hidden layers, the same for every scalar, reads the gradient, the parameter,
averages of both kinds at several timescales and the time, each normalised over its tensor, and says
a direction and a log magnitude. It does not know how long the run will be.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learned_opt.base import Horizon, Params, Theta
from learned_opt.columns import is_trained, refuse_complex
from learned_opt.learned.parts.features import (
    TIMES,
    FactoredMoment,
    accumulate,
    clip_gradient,
    normaliser,
    offset_decays,
    time_features,
)

MOMENTUM_DECAYS = (0.9, 0.99, 0.999)
SQUARE_DECAYS = (0.999,)
FACTORED_DECAYS = (0.9, 0.99, 0.999)
TENSOR_FEATURES = 28
# Up to here one fused loop over scalars holds the whole network in registers.
LARGEST_UNROLLED = 8
CHUNK = 8192


class Memory(NamedTuple):
    """What is kept of the gradients of the tensors of one shape; leading axis: tensors."""

    momentum: Float[Array, "n 3 *s"]
    square: Float[Array, "n 1 *s"]
    factored: FactoredMoment


class SmallFCState(NamedTuple):
    """float32 whatever the parameters are; every field changes every step."""

    count: Int[Array, ""]  # updates made so far
    memories: tuple[Memory, ...]  # one for each shape, in order of first appearance


@dataclass(frozen=True)
class SmallFC:
    """The rule's static choices; 197 weights with the published hidden size 4, 2,409 with 32.

    hidden: units of each of the two hidden layers. exp_mult, step_mult: a parameter moves by
    -step_mult * direction * exp(exp_mult * magnitude); a learning rate given to `opt` takes the
    place of step_mult.
    """

    hidden: int = 4
    exp_mult: float = 0.001
    step_mult: float = 0.001

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ValueError(f"hidden: {self.hidden} is not allowed; it must be at least 1")
        for name in ("exp_mult", "step_mult"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name}: {value} is not allowed; it must be finite and above 0")

    def init(self, key: PRNGKeyArray) -> Theta:
        """Normal weights cut at two standard deviations of 1/sqrt(inputs), zero biases."""
        sizes = (TENSOR_FEATURES + len(TIMES), self.hidden, self.hidden, 2)
        theta: dict[str, Array] = {
            "momentum_offset": jnp.zeros(len(MOMENTUM_DECAYS)),
            "square_offset": jnp.zeros(len(SQUARE_DECAYS)),
            "factored_offset": jnp.zeros(len(FACTORED_DECAYS)),
        }
        for i, layer_key in enumerate(jax.random.split(key, 3)):
            shape = sizes[i : i + 2]
            draw = jax.random.truncated_normal(layer_key, -2.0, 2.0, shape)
            theta |= {f"w{i}": draw / shape[0] ** 0.5, f"b{i}": jnp.zeros(shape[1])}
        return theta

    def opt(
        self,
        theta: Theta,
        horizon: Horizon,
        key: PRNGKeyArray | None = None,
        learning_rate: float | Array | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        """The rule with weights `theta`; it reads no extra arguments, no horizon and no key."""
        del horizon, key
        rate = self.step_mult if learning_rate is None else learning_rate

        def init(params: Params) -> SmallFCState:
            refuse_complex(params)
            memories = tuple(
                _fresh_memory(len(places), shape) for shape, places in _by_shape(params).items()
            )
            return SmallFCState(jnp.zeros((), jnp.int32), memories)

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
            del extra
            if params is None:
                raise ValueError("params: small_fc reads them, pass params")
            gradients = jax.tree.leaves(updates)
            leaves, treedef = jax.tree.flatten(params)
            moved = [jnp.zeros_like(leaf) for leaf in leaves]
            shared = theta["b0"] + time_features(state.count) @ theta["w0"][TENSOR_FEATURES:]
            memories = []
            for memory, (shape, places) in zip(
                state.memories, _by_shape(params).items(), strict=True
            ):
                stacked = [
                    jnp.stack([of[i].reshape(shape).astype(jnp.float32) for i in places])
                    for of in (gradients, leaves)
                ]
                step, memory = jax.vmap(partial(self._step, theta, shared))(memory, *stacked)
                memories.append(memory)
                for i, row in zip(places, step, strict=True):
                    moved[i] = (-rate * row).reshape(leaves[i].shape).astype(leaves[i].dtype)
            return treedef.unflatten(moved), SmallFCState(state.count + 1, tuple(memories))

        return optax.GradientTransformationExtraArgs(init, update)

    def _step(
        self,
        theta: Theta,
        shared: Float[Array, " h"],
        memory: Memory,
        gradient: Float[Array, "*s"],
        param: Float[Array, "*s"],
    ) -> tuple[Float[Array, "*s"], Memory]:
        """direction * exp(exp_mult * magnitude) for one tensor, and its new memory.

        shared: what all scalars add to the first layer, made from the bias and the time.
        """
        gradient = clip_gradient(gradient)
        decays = (
            offset_decays(first, theta[f"{name}_offset"])
            for name, first in (
                ("momentum", MOMENTUM_DECAYS),
                ("square", SQUARE_DECAYS),
                ("factored", FACTORED_DECAYS),
            )
        )
        momentum_decay, square_decay, factored_decay = decays
        memory = Memory(
            accumulate(momentum_decay, memory.momentum, gradient),
            accumulate(square_decay, memory.square, jnp.square(gradient)),
            memory.factored.step(factored_decay, gradient),
        )
        base = _base(memory, gradient, param)
        scales = jnp.concatenate([normaliser(x) for x in _features(*base)])
        first = scales[:, None] * theta["w0"][:TENSOR_FEATURES]
        layers = [(first, shared), (theta["w1"], theta["b1"]), (theta["w2"], theta["b2"])]
        forward = _scalar_by_scalar if self.hidden <= LARGEST_UNROLLED else _in_chunks
        direction, magnitude = forward(layers, base, gradient.shape)
        return direction * jnp.exp(self.exp_mult * magnitude), memory


def _by_shape(params: Params) -> dict[tuple[int, ...], list[int]]:
    """The places of the trained leaves by shape, a scalar's being (1,).

    Tensors of one shape are updated as one batch, so depth does not lengthen compilation.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, leaf in enumerate(jax.tree.leaves(params)):
        if is_trained(leaf):
            groups.setdefault(jnp.shape(leaf) or (1,), []).append(i)
    return groups


def _fresh_memory(tensors: int, shape: tuple[int, ...]) -> Memory:
    factored = FactoredMoment.zeros(len(FACTORED_DECAYS), shape)
    return Memory(
        jnp.zeros((tensors, len(MOMENTUM_DECAYS), *shape)),
        jnp.zeros((tensors, len(SQUARE_DECAYS), *shape)),
        jax.tree.map(lambda x: jnp.zeros((tensors, *x.shape)), factored),
    )


def _base(memory: Memory, gradient: Array, param: Array) -> list[Array]:
    """What the features of one tensor are made of: [rows, *shape], averages over axes kept as 1."""
    row, column = memory.factored
    row_factor, column_factor = memory.factored.factors()
    if column is None or column_factor is None:
        column, gradient_factor = row, row_factor
        momentum_factor = jax.lax.rsqrt(row + 1e-6)
    else:
        gradient_factor = momentum_factor = row_factor * column_factor
    return [
        gradient[None],
        param[None],
        memory.momentum,
        memory.square,
        row,
        column,
        gradient_factor,
        momentum_factor,
    ]


def _features(
    gradient: Array,
    param: Array,
    momentum: Array,
    square: Array,
    row: Array,
    column: Array,
    gradient_factor: Array,
    momentum_factor: Array,
) -> list[Array]:
    """The 28 features in their order, by groups."""
    inverse = jax.lax.rsqrt(square + 1e-6)
    return [
        gradient,
        param,
        momentum,
        square,
        momentum * inverse,
        inverse,
        gradient * gradient_factor,
        row,
        column,
        jax.lax.rsqrt(row + 1e-8),
        jax.lax.rsqrt(column + 1e-8),
        momentum * momentum_factor,
    ]


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _scalar_by_scalar(
    layers: list[tuple[Array, Array]], base: list[Array], shape: tuple[int, ...]
) -> list[Array]:
    """The network unit by unit, each an array of the tensor's shape: XLA fuses it into one loop.

    Features that are the same along an axis are summed before they are spread over it. Derivatives
    are those of the matrix form: through single units they take minutes to compile.
    """
    del shape
    (weight, bias), *deeper = layers
    rows = [row for group in _features(*base) for row in group]
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
    return x


@_scalar_by_scalar.defjvp
def _scalar_by_scalar_jvp(
    shape: tuple[int, ...], primals: tuple[Any, Any], tangents: tuple[Any, Any]
) -> tuple[list[Array], list[Array]]:
    return jax.jvp(lambda layers, base: _in_chunks(layers, base, shape), primals, tangents)


def _in_chunks(
    layers: list[tuple[Array, Array]], base: list[Array], shape: tuple[int, ...]
) -> list[Array]:
    """The network as matrices over [feature, scalar], a chunk of scalars at a time."""
    table = jnp.concatenate([jnp.broadcast_to(x, (x.shape[0], *shape)) for x in base])
    sizes = [x.shape[0] for x in base]
    starts = [sum(sizes[:i]) for i in range(1, len(sizes))]

    def forward(columns: Float[Array, "r c"]) -> Float[Array, "2 c"]:
        x = jnp.concatenate(_features(*jnp.split(columns, starts)))
        for i, (weight, bias) in enumerate(layers):
            x = jnp.maximum(x, 0.0) if i else x
            x = weight.T @ x + bias[:, None]
        return x

    table = table.reshape(table.shape[0], -1)
    total = table.shape[1]
    if total <= CHUNK:
        return list(forward(table).reshape(2, *shape))
    padded = jnp.pad(table, ((0, 0), (0, -total % CHUNK)))
    chunks = padded.reshape(table.shape[0], -1, CHUNK).swapaxes(0, 1)
    out = jax.lax.map(forward, chunks).swapaxes(0, 1).reshape(2, -1)
    return list(out[:, :total].reshape(2, *shape))
