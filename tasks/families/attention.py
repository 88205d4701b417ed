"""Transformers as dictionaries of arrays: pre-norm blocks of self-attention and a dense network."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Params
from tasks.families.layers import ACTIVATIONS, affine, dense, normalise


def check_heads(hidden: int, heads: int) -> None:
    """Raises ValueError unless the heads share `hidden` evenly, naming the nearest that do."""
    if hidden % heads:
        near = [n for n in range(1, hidden + 1) if hidden % n == 0]
        near = sorted(sorted(near, key=lambda n: abs(n - heads))[:2])
        raise ValueError(
            f"heads: {heads} is not allowed; it must divide hidden {hidden}, as "
            f"{' and '.join(map(str, near))} do"
        )


def dropout(key: PRNGKeyArray, x: Float[Array, "*n"], rate: float | Array) -> Float[Array, "*n"]:
    """Entries become 0 with probability `rate` in [0, 1), the others grow to keep the mean."""
    if isinstance(rate, float | int) and rate == 0:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def norm_init(width: int) -> Params:
    return {"gain": jnp.ones(width), "offset": jnp.zeros(width)}


def layer_norm(params: Params, x: Float[Array, "*n width"]) -> Float[Array, "*n width"]:
    return normalise(x) * params["gain"] + params["offset"]


def attention_init(key: PRNGKeyArray, hidden: int) -> Params:
    names = ("query", "key", "value", "output")
    keys = jax.random.split(key, len(names))
    return {name: dense(k, hidden, hidden) for name, k in zip(names, keys, strict=True)}


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


def block_init(key: PRNGKeyArray, hidden: int, mlp: int) -> Params:
    attention_key, up_key, down_key = jax.random.split(key, 3)
    return {
        "norm0": norm_init(hidden),
        "attention": attention_init(attention_key, hidden),
        "norm1": norm_init(hidden),
        "up": dense(up_key, hidden, mlp),
        "down": dense(down_key, mlp, hidden),
    }


def block(
    params: Params,
    x: Float[Array, "batch length hidden"],
    key: PRNGKeyArray,
    heads: int,
    *,
    causal: bool = False,
    activation: str = "gelu",
    rate: float | Array = 0.0,
) -> Float[Array, "batch length hidden"]:
    """x + attention(norm x), then x + mlp(norm x); `rate` drops entries of what is added."""
    attention_key, mlp_key = jax.random.split(key)
    added = attention(params["attention"], layer_norm(params["norm0"], x), heads, causal)
    x = x + dropout(attention_key, added, rate)
    inner = ACTIVATIONS[activation](affine(params["up"], layer_norm(params["norm1"], x)))
    return x + dropout(mlp_key, affine(params["down"], inner), rate)


def transformer_init(key: PRNGKeyArray, layers: int, hidden: int, mlp: int) -> Params:
    """`layers` blocks, each with `mlp` units in its dense network, and the norm that ends them."""
    blocks = {
        f"block{i}": block_init(k, hidden, mlp) for i, k in enumerate(jax.random.split(key, layers))
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
    rate: float | Array = 0.0,
) -> Float[Array, "batch length hidden"]:
    """The blocks of `transformer_init` in turn, then its norm; positions are the caller's."""
    for i, k in enumerate(jax.random.split(key, len(params) - 1)):
        x = block(params[f"block{i}"], x, k, heads, causal=causal, activation=activation, rate=rate)
    return layer_norm(params["norm"], x)
