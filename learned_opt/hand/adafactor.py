"""Adafactor: the second moment of a matrix as the product of its rows' and columns' means."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int

from learned_opt.base import Params
from learned_opt.hand.assemble import Whole
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.parts.base import check_count
from learned_opt.hand.prodigy import scheduled
from learned_opt.hand.spec import HandDesigned


class FactoredState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    rows: Params  # means over the longest axis, or one zero
    columns: Params  # means over the second longest axis, or one zero
    full: Params  # second moments of tensors that are not factored, or one zero


def _axes(shape: tuple[int, ...], smallest: int) -> tuple[int, int] | None:
    """The second longest axis and the longest, if both have at least `smallest` entries."""
    if len(shape) < 2:
        return None
    *_, second, first = (int(axis) for axis in np.argsort(shape))
    return (second, first) if shape[second] >= smallest else None


def scale_by_factored_rms(
    decay_rate: Scalar, eps: Scalar, min_dim_size_to_factor: int, sqrt_last: bool
) -> optax.GradientTransformation:
    """u = g / sqrt(V), V of a matrix being R C / mean(R).

    sqrt_last: one root of the quotient in place of two of its factors; it overflows earlier.
    """

    def init(params: Params) -> FactoredState:
        def one(p):
            axes = _axes(p.shape, min_dim_size_to_factor)
            none = jnp.zeros((1,), p.dtype)
            if axes is None:
                return none, none, jnp.zeros_like(p)
            second, first = axes
            rows, columns = (np.delete(p.shape, axis) for axis in (first, second))
            return jnp.zeros(rows, p.dtype), jnp.zeros(columns, p.dtype), none

        return FactoredState(jnp.zeros((), jnp.int32), *_transposed(params, one, params))

    def update(updates, state, params=None):
        del params
        count = state.count + 1
        decay = 1.0 - jnp.asarray(count, jnp.result_type(float)) ** -decay_rate

        def one(g, rows, columns, full):
            mean = lambda old, new: jnp.asarray(decay * old + (1.0 - decay) * new, old.dtype)
            square = jnp.square(g) + eps
            axes = _axes(g.shape, min_dim_size_to_factor)
            if axes is None:
                full = mean(full, square)
                return g / jnp.sqrt(full), rows, columns, full
            second, first = axes
            rows, columns = mean(rows, square.mean(first)), mean(columns, square.mean(second))
            row = jnp.expand_dims(rows, first)
            share = row / row.mean(second, keepdims=True)
            column = jnp.expand_dims(columns, second)
            root = jnp.sqrt(share * column) if sqrt_last else jnp.sqrt(share) * jnp.sqrt(column)
            return g / root, rows, columns, full

        found = _transposed(updates, one, updates, state.rows, state.columns, state.full)
        return found[0], FactoredState(count, *found[1:])

    return optax.GradientTransformation(init, update)


def _transposed(outer: Params, one: Any, *trees: Params) -> list[Params]:
    """A tree for each of the values that `one` gives for a leaf."""
    found = [one(*leaves) for leaves in zip(*map(jax.tree.leaves, trees), strict=True)]
    trees_found = zip(*found, strict=True)
    return [jax.tree.unflatten(jax.tree.structure(outer), values) for values in trees_found]


def _adafactor(
    learning_rate: Any,
    decay_rate: Scalar = 0.8,
    eps: Scalar = 1e-30,
    clipping_threshold: Scalar = 1.0,
    weight_decay_rate: Scalar = 0.0,
    min_dim_size_to_factor: int = 128,
    multiply_by_parameter_scale: bool = True,
    momentum: float | None = None,
    relative_step: bool = False,
    sqrt_last: bool = False,
):
    """clipping_threshold: the largest RMS of a tensor's u. weight_decay_rate: for each step.

    relative_step: the rate is the smaller of learning_rate and 1 / sqrt(t), as in the paper.
    """
    check_count("min_dim_size_to_factor", min_dim_size_to_factor)

    def rate(count: Any) -> Any:
        given = scheduled(learning_rate, count)
        return jnp.minimum(given, (count + 1.0) ** -0.5) if relative_step else given

    identity = optax.identity()
    return optax.chain(
        scale_by_factored_rms(decay_rate, eps, min_dim_size_to_factor, sqrt_last),
        optax.clip_by_block_rms(clipping_threshold),
        optax.scale_by_schedule(rate),
        optax.scale_by_param_block_rms() if multiply_by_parameter_scale else identity,
        identity if momentum is None else optax.ema(momentum, debias=False),
        optax.add_decayed_weights(weight_decay_rate),
        optax.scale(-1.0),
    )


ENTRIES = (
    HandDesigned(
        "adafactor",
        Whole(_adafactor),
        1e-2,
        source="arXiv:1804.04235",
        formula="u = max(RMS(w), 1e-3) g / sqrt(R C / mean(R)), RMS of g / sqrt(...) at most 1",
        needs=("params",),
        ranges=(
            ("decay_rate", Hyperparameter("linear", 0.5, 1.0, open=True)),
            ("eps", Hyperparameter("log", 1e-30, 1e-6)),
            ("clipping_threshold", Hyperparameter("log", 0.1, 10.0, open=True)),
            ("weight_decay_rate", Hyperparameter("log", 1e-8, 1e-2)),
        ),
    ),
)
