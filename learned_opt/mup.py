"""Multipliers that let one rule train networks of any width (muLO, 2406.00153; muP, 2203.03466)."""

import math
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import Params
from learned_opt.hand.paths import path_of
from learned_opt.naming import check_name

Kind = Literal["input", "hidden", "output", "vector"]


def multipliers(
    params: Params,
    base: Params | None = None,
    kinds: Any = None,
    scaled_logits: bool = False,
    relative: bool = False,
) -> Any:
    """What each tensor's steps are multiplied by so that their effect does not grow with width.

    A step's entries are of one size at any width; their sum in a layer of fan-in n grows with n. So
    hidden and output kernels get base fan-in / fan-in, everything else 1. Of a kernel [..., in,
    out] the fan-in is the product of all axes but the last. Give one of

    base: the same tree, arrays or shapes, at the width where the rule is known to work. A kernel is
    hidden where the fan-in and the last axis differ from it, output where only the fan-in does.
    kinds: a tree of Kinds, one for each tensor; base fan-ins are then 1.

    scaled_logits: the network itself divides its logits by the last fan-in, so that output kernels
    get 1 as well. relative: for rules whose steps are in units of the tensor's size, as those of
    relative_adam and `nominal` are; the size of a kernel drawn with variance 1 / fan-in brings one
    square root of it, the multiplier the other. Returns a tree of floats. Raises ValueError.
    """
    if (base is None) == (kinds is None):
        raise ValueError("base, kinds: give one of them")
    leaves, treedef = jax.tree.flatten_with_path(params)
    other = jax.tree.flatten(kinds if base is None else base)
    if other[1] != treedef:
        named = "kinds" if base is None else "base"
        raise ValueError(f"{named}: {other[1]} is not the tree of the parameters, {treedef}")
    found = []
    for (path, leaf), known in zip(leaves, other[0], strict=True):
        shape, name = jnp.shape(leaf), path_of(path)
        if base is None:
            kind, factor = _checked(name, shape, known), 1.0
        else:
            known = jnp.shape(known)
            kind, factor = _compared(name, shape, known), _fan_in(known)
        shrinks = kind == "hidden" or (kind == "output" and not scaled_logits)
        ratio = factor / _fan_in(shape) if shrinks else 1.0
        found.append(math.sqrt(ratio) if relative else ratio)
    return treedef.unflatten(found)


def scale_by(multipliers: Any) -> optax.GradientTransformation:
    """Multiplies every tensor's update by its multiplier: the last link of an optax.chain.

    Not for rules with a lookahead point, which expect that nothing else changes their updates.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        return jax.tree.map(lambda u, m: u * jnp.asarray(m, u.dtype), updates, multipliers), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _fan_in(shape: tuple[int, ...]) -> float:
    return float(math.prod(shape[:-1]))


def _checked(name: str, shape: tuple[int, ...], kind: str) -> str:
    check_name(f"kinds, {name}", kind, get_args(Kind))
    if kind != "vector" and len(shape) < 2:
        raise ValueError(f"kinds, {name}: a tensor of shape {shape} is a vector, not {kind!r}")
    return kind


def _compared(name: str, shape: tuple[int, ...], base: tuple[int, ...]) -> str:
    if len(shape) != len(base):
        raise ValueError(f"base, {name}: {base} has another rank than the parameter's {shape}")
    if len(shape) < 2:
        return "vector"
    inner, outer = shape[:-1] != base[:-1], shape[-1] != base[-1]
    return ("hidden" if outer else "output") if inner else "input"
