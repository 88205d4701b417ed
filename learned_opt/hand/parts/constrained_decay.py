"""Weight decay as a constraint: a measure of each tensor is kept below a bound."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from learned_opt.base import Params
from learned_opt.hand.parts.base import Mask, Part, check_count, masked
from learned_opt.naming import check_name


def _std(w: Array) -> Array:
    return jnp.sqrt(jnp.maximum(_variance(w), 1e-30))


def _variance(w: Array) -> Array:
    return jnp.sum(jnp.square(w - jnp.mean(w))) / max(1, w.size - 1)


MEASURES: dict[str, Callable[[Array], Array]] = {
    "l2": lambda w: jnp.sum(jnp.square(w)),
    "l1": lambda w: jnp.sum(jnp.abs(w)),
    "huber": lambda w: jnp.sum(optax.huber_loss(w)),
    "std": _std,
}
# How the bound is found -> the default of `value`.
BOUNDS = {"uniform": 1.0, "dependent": 1.0, "warm_start": 1000, "inflection_point": 200}
SMOOTHING = 0.9


class Constraint(NamedTuple):
    """Of one tensor."""

    multiplier: Float[Array, ""]
    bound: Float[Array, ""]  # infinite as long as there is none
    smoothed: Float[Array, ""]  # EMA of the measure, at the samples
    slope: Float[Array, ""]  # its last increment


class ConstrainedState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    constraints: Params  # a Constraint for each leaf


def _constrained(
    value: Any = None,
    mask: Mask = "matrices",
    bound: str = "inflection_point",
    measure: str = "l2",
    speed: Any = 1.0,
) -> optax.GradientTransformation:
    """After the step, per tensor: l <- max(0, l + speed (R(w) - k)); w <- w - l grad R(w).

    bound: how k is set. `uniform`: to value; `dependent`: value * R of the start; `warm_start`: R
    after value steps; `inflection_point`: R, looked at and smoothed every value steps, when its
    increments first shrink, from the fourth look on. measure: R, one of MEASURES; speed is divided
    by the size of the tensor for all but std.
    """
    check_name("weight_decay.bound", bound, BOUNDS)
    check_name("weight_decay.measure", measure, MEASURES)
    value = BOUNDS[bound] if value is None else value
    if bound in ("warm_start", "inflection_point"):
        check_count("weight_decay.value", value)
    return masked(_bounded(value, bound, MEASURES[measure], measure == "std", speed), mask)


def _bounded(
    value: Any, bound: str, measure: Callable[[Array], Array], whole: bool, speed: Any
) -> optax.GradientTransformation:
    def start(param: Array) -> Constraint:
        found = {"uniform": lambda: value, "dependent": lambda: value * measure(param)}
        first = jnp.asarray(found.get(bound, lambda: jnp.inf)(), param.dtype)
        zero = lambda: jnp.zeros((), param.dtype)
        return Constraint(zero(), first, zero(), zero())

    def init(params: Params) -> ConstrainedState:
        return ConstrainedState(jnp.zeros((), jnp.int32), jax.tree.map(start, params))

    def find(count: Array, found: Array, constraint: Constraint) -> Constraint:
        """The constraint with its bound, where this is the step that sets it."""
        k = constraint.bound
        if bound == "warm_start":
            return constraint._replace(bound=jnp.where(count == value, found, k))
        if bound != "inflection_point":
            return constraint
        look = count % value == 0
        smoothed = SMOOTHING * constraint.smoothed + (1.0 - SMOOTHING) * found
        slope = smoothed - constraint.smoothed
        bends = look & (count > 3 * value) & (slope < constraint.slope) & jnp.isinf(k)
        return constraint._replace(
            bound=jnp.where(bends, found, k),
            smoothed=jnp.where(look, smoothed, constraint.smoothed),
            slope=jnp.where(look, slope, constraint.slope),
        )

    def move(count: Array, u: Array, p: Array, constraint: Constraint) -> tuple[Array, Constraint]:
        w = p + u
        found, gradient = jax.value_and_grad(measure)(w)
        constraint = find(count, found, constraint)
        rate = jnp.asarray(speed if whole else speed / p.size, p.dtype)
        pressed = constraint.multiplier + rate * (found - constraint.bound)
        constraint = constraint._replace(multiplier=jnp.maximum(pressed, 0.0))
        return u - constraint.multiplier * gradient, constraint

    def update(updates, state, params=None):
        count = state.count + 1
        leaves, structure = jax.tree.flatten(updates)
        before = structure.flatten_up_to(state.constraints)
        moved = [
            move(count, *given)
            for given in zip(leaves, structure.flatten_up_to(params), before, strict=True)
        ]
        updates, constraints = (structure.unflatten([pair[i] for pair in moved]) for i in (0, 1))
        return updates, ConstrainedState(count, constraints)

    return optax.GradientTransformation(init, update)


DECAYS = {
    "constrained": Part(
        "update",
        _constrained,
        "a measure of every matrix is held at a bound found during training (CPR)",
        "arXiv:2311.09058",
        ("params",),
    )
}
