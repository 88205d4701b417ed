"""Weights that follow the ones being trained slowly, and are what counts."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from learned_opt.base import EvalPoint, Params
from learned_opt.hand.hyperparameters import Hyperparameter
from learned_opt.hand.parts.base import Part, check_count


class SlowState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    inner: optax.OptState
    point: EvalPoint  # the slow weights


def _copied(params: Params) -> EvalPoint:
    """Apart from the parameters, so that both may be donated."""
    return EvalPoint(jax.tree.map(lambda p: jnp.array(p, copy=True), params))


def _slow(inner: optax.GradientTransformation, move: Any) -> optax.GradientTransformationExtraArgs:
    """move: (count, slow leaf, fast leaf after the step) -> (slow leaf, correction of fast)."""
    inner = optax.with_extra_args_support(inner)

    def init(params: Params) -> SlowState:
        return SlowState(jnp.zeros((), jnp.int32), inner.init(params), _copied(params))

    def update(updates, state, params=None, **extra):
        count = state.count + 1
        updates, inner_state = inner.update(updates, state.inner, params, **extra)
        leaves, structure = jax.tree.flatten(params)
        fast = [p + u for p, u in zip(leaves, jax.tree.leaves(updates), strict=True)]
        slow = jax.tree.leaves(state.point.params)
        moved = [move(count, *pair) for pair in zip(slow, fast, strict=True)]
        point = EvalPoint(structure.unflatten([s for s, _ in moved]))
        corrected = jax.tree.map(jnp.add, updates, structure.unflatten([f for _, f in moved]))
        return corrected, SlowState(count, inner_state, point)

    return optax.GradientTransformationExtraArgs(init, update)


def lookahead(
    inner: optax.GradientTransformation, k: int = 5, alpha: Any = 0.5
) -> optax.GradientTransformationExtraArgs:
    """Every k steps: slow <- slow + alpha (fast - slow), fast <- slow (arXiv:1907.08610)."""
    check_count("parts.lookahead.k", k)

    def move(count, slow, fast):
        now = count % k == 0
        slow = jnp.where(now, slow + jnp.asarray(alpha, slow.dtype) * (fast - slow), slow)
        return slow, jnp.where(now, slow - fast, 0.0)

    return _slow(inner, move)


def average(
    inner: optax.GradientTransformation, decay: Any = 0.999
) -> optax.GradientTransformationExtraArgs:
    """slow <- d slow + (1 - d) fast, d = min(decay, count / (count + 9)), at every step."""

    def move(count, slow, fast):
        kept = jnp.minimum(decay, count / (count + 9.0)).astype(slow.dtype)
        return kept * slow + (1.0 - kept) * fast, jnp.zeros_like(fast)

    return _slow(inner, move)


PARTS = {
    "average": Part(
        "outside", average, "evaluated at a moving average of the weights", needs=("params",)
    ),
    "lookahead": Part(
        "outside",
        lookahead,
        "every k steps back towards slow weights, where it is evaluated",
        "arXiv:1907.08610",
        ("params",),
        {"alpha": Hyperparameter("linear", 0.2, 0.8, most=1.0, open=True)},
    ),
}
