"""MARS: gradients with their variance reduced by the gradient before, in front of three rules."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import Params
from learned_opt.hand.assemble import Direction, Transform
from learned_opt.hand.hyperparameters import HYPERPARAMETERS, Hyperparameter, Scalar
from learned_opt.hand.spec import HandDesigned

SOURCE = "arXiv:2411.10438"
RANGES = (
    ("gamma", Hyperparameter("log", 2.5e-3, 0.25)),
    ("vector_b1", HYPERPARAMETERS["b1"]),
    ("vector_b2", HYPERPARAMETERS["b2"]),
)


class MarsState(NamedTuple):
    previous: Params  # the gradient before, 0 at first


def mars_correction(gamma: Scalar, b1: Scalar) -> optax.GradientTransformation:
    """c = g + gamma b1 / (1 - b1) (g - previous g), each leaf's norm at most 1."""

    def init(params: Params) -> MarsState:
        return MarsState(optax.tree.zeros_like(params))

    def update(updates, state, params=None):
        del params

        def one(g, before):
            c = g + gamma * b1 / (1 - b1) * (g - before)
            return jnp.asarray(c / jnp.maximum(1, jnp.sqrt(jnp.sum(jnp.square(c)))), g.dtype)

        return jax.tree.map(one, updates, state.previous), MarsState(updates)

    return optax.GradientTransformation(init, update)


def _mars(
    matrices: optax.GradientTransformation, b1: Scalar, b2: Scalar, eps: Scalar
) -> optax.GradientTransformationExtraArgs:
    """`matrices` for leaves of two or more axes, Adam for the others."""
    labels = lambda params: jax.tree.map(lambda p: "matrix" if p.ndim > 1 else "vector", params)
    adam = optax.scale_by_adam(b1, b2, eps)
    return optax.partition({"matrix": matrices, "vector": adam}, labels)


def scale_by_mars_adamw(
    b1: Scalar = 0.95,
    b2: Scalar = 0.99,
    eps: Scalar = 1e-8,
    gamma: Scalar = 0.025,
    vector_b1: Scalar = 0.9,
    vector_b2: Scalar = 0.95,
) -> optax.GradientTransformation:
    """Adam of c for matrices; leaves of fewer axes have Adam of g with vector_b1 and vector_b2."""
    adam = optax.scale_by_adam(b1, b2, eps)
    return _mars(optax.chain(mars_correction(gamma, b1), adam), vector_b1, vector_b2, eps)


def scale_by_mars_lion(
    b1: Scalar = 0.95,
    eps: Scalar = 1e-8,
    gamma: Scalar = 0.025,
    vector_b1: Scalar = 0.9,
    vector_b2: Scalar = 0.95,
) -> optax.GradientTransformation:
    """sign(EMA(c; b1)) for matrices; the others as in `scale_by_mars_adamw`."""
    average = optax.ema(b1, debias=False)
    rule = optax.chain(mars_correction(gamma, b1), average, optax.scale_by_sign())
    return _mars(rule, vector_b1, vector_b2, eps)


def scale_by_mars_shampoo(
    b1: Scalar = 0.95,
    eps: Scalar = 1e-8,
    gamma: Scalar = 0.025,
    vector_b1: Scalar = 0.9,
    vector_b2: Scalar = 0.95,
) -> optax.GradientTransformation:
    """EMA(c; b1) made orthogonal for matrices, times max(1, sqrt(out / in)).

    Other leaves as in `scale_by_mars_adamw`. The last axis is `out`, all before it `in`.
    """
    orthogonal = optax.contrib.scale_by_muon(
        beta=b1, eps=eps, nesterov=False, weight_dimension_numbers=_dimensions
    )
    stretched = optax.stateless(lambda updates, params: jax.tree.map(_stretched, updates))
    rule = optax.chain(mars_correction(gamma, b1), orthogonal, stretched)
    return _mars(rule, vector_b1, vector_b2, eps)


def _dimensions(updates: Params) -> Params:
    numbers = optax.contrib.MuonDimensionNumbers
    return jax.tree.map(lambda u: numbers((*range(u.ndim - 1),), u.ndim - 1), updates)


def _stretched(update: Any) -> Any:
    out, entries = update.shape[-1], update.size
    return update * max(1.0, out * out / entries) ** 0.5


def _entry(name: str, transform: Transform, formula: str) -> HandDesigned:
    return HandDesigned(
        name, Direction(transform), 3e-3, source=SOURCE, formula=formula, ranges=RANGES
    )


ENTRIES = (
    _entry(
        "mars_adamw",
        scale_by_mars_adamw,
        "c = clip(g + gamma * b1 / (1 - b1) * (g - g_before)); adam's u of c",
    ),
    _entry("mars_lion", scale_by_mars_lion, "u = sign(EMA(c; b1)), c as in mars_adamw"),
    _entry(
        "mars_shampoo",
        scale_by_mars_shampoo,
        "u = newton_schulz(EMA(c; b1)) * max(1, sqrt(out / in)), c as in mars_adamw",
    ),
)
