"""Transformers as dictionaries of arrays: pre-norm blocks of self-attention and a dense network."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Params
from tasks.families.layers import ACTIVATIONS, affine, dense, dropout, norm_init, normalise


def layer_norm(params: Params, x: Float[Array, "*n width"]) -> Float[Array, "*n width"]:
    return normalise(x) * params["gain"] + params["offset"]


def attention_init(
    key: PRNGKeyArray, hidden: int, scale: float | Array = 1.0, initializer: str = "by_inputs"
) -> Params:
    names = ("query", "key", "value", "output")
    return {
        name: dense(k, hidden, hidden, scale, initializer)
        for name, k in zip(names, jax.random.split(key, len(names)), strict=True)
    }


def attention(
    params: Params, x: Float[Array, "batch length hidden"], heads: int, causal: bool
) -> Float[Array, "batch length hidden"]:
    """Every position's mean of the values, weighted by softmax(query . key / sqrt(hidden / heads)).

    causal: a position sees itself and those before it, not those after.
    """
    batch, length, hidden = x.shape
    width = hidden // heads
    query, key, value = (
        affine(params[name], x).reshape(batch, length, heads, width)
        for name in ("query", "key", "value")
    )
    scores = jnp.einsum("nqhw,nkhw->nhqk", query, key) / math.sqrt(width)
    if causal:
        seen = jnp.arange(length)[:, None] >= jnp.arange(length)
        scores = jnp.where(seen, scores, -jnp.inf)
    mean = jnp.einsum("nhqk,nkhw->nqhw", jax.nn.softmax(scores), value)
    return affine(params["output"], mean.reshape(x.shape))


def block_init(
    key: PRNGKeyArray,
    hidden: int,
    mlp: int,
    scale: float | Array = 1.0,
    initializer: str = "by_inputs",
) -> Params:
    attention_key, up_key, down_key = jax.random.split(key, 3)
    return {
        "norm0": norm_init(hidden),
        "attention": attention_init(attention_key, hidden, scale, initializer),
        "norm1": norm_init(hidden),
        "up": dense(up_key, hidden, mlp, scale, initializer),
        "down": dense(down_key, mlp, hidden, scale, initializer),
    }


def block(
    params: Params,
    x: Float[Array, "batch length hidden"],
    key: PRNGKeyArray,
    heads: int,
    *,
    causal: bool = False,
    activation: str = "gelu",
    rate: float = 0.0,
) -> Float[Array, "batch length hidden"]:
    """x + attention(norm x), then x + mlp(norm x); `rate` drops entries of what is added."""
    attention_key, mlp_key = jax.random.split(key)
    added = attention(params["attention"], layer_norm(params["norm0"], x), heads, causal)
    x = x + (dropout(attention_key, added, rate) if rate else added)
    inner = ACTIVATIONS[activation](affine(params["up"], layer_norm(params["norm1"], x)))
    added = affine(params["down"], inner)
    return x + (dropout(mlp_key, added, rate) if rate else added)


def transformer_init(
    key: PRNGKeyArray,
    layers: int,
    hidden: int,
    mlp: int,
    scale: float | Array = 1.0,
    initializer: str = "by_inputs",
) -> Params:
    """`layers` blocks, each with `mlp` units in its dense network, and the norm that ends them.

    scale, initializer: of all weights, as in layers.dense.
    """
    keys = jax.random.split(key, layers)
    blocks = {
        f"block{i}": block_init(k, hidden, mlp, scale, initializer) for i, k in enumerate(keys)
    }
    return {**blocks, "norm": norm_init(hidden)}


def transformer(
    params: Params,
    x: Float[Array, "batch length hidden"],
    key: PRNGKeyArray,
    heads: int,
    *,
    causal: bool = False,
    activation: str = "gelu",
    rate: float = 0.0,
) -> Float[Array, "batch length hidden"]:
    """The blocks of `transformer_init` in turn, then its norm; positions are the caller's."""
    for i, k in enumerate(jax.random.split(key, len(params) - 1)):
        x = block(params[f"block{i}"], x, k, heads, causal=causal, activation=activation, rate=rate)
    return layer_norm(params["norm"], x)
