"""One update for several minibatches."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from learned_opt.base import Params
from learned_opt.hand.parts.base import Part, check_count
from learned_opt.hand.spec import check_given
from learned_opt.naming import check_name

WEIGHTINGS = ("equal", "items")


class AccumulateState(NamedTuple):
    count: Int[Array, ""]  # minibatches since the last update
    items: Float[Array, ""]  # their weights together
    gradient: Params  # weighted sum
    value: Float[Array, ""]  # weighted sum of losses
    inner: optax.OptState


def accumulate(
    inner: optax.GradientTransformation, every: int = 4, weighting: str = "equal"
) -> optax.GradientTransformationExtraArgs:
    """An update at every `every`-th call, with the mean gradient since the last; 0 in between.

    weighting: `equal`, or `items`: by the argument n_items, so that minibatches of different sizes
    make up the gradient of the one large batch. The inner rule is given value= and n_items= of the
    large batch too, other arguments of its last part. A schedule counts the updates, of which there
    are num_steps / every.
    """
    check_count("parts.accumulate.every", every)
    check_name("parts.accumulate.weighting", weighting, WEIGHTINGS)
    inner = optax.with_extra_args_support(inner)

    def fresh(params: Params, inner_state: optax.OptState) -> AccumulateState:
        none, number = jnp.zeros((), jnp.int32), lambda: jnp.zeros((), jnp.result_type(float))
        zeros = optax.tree.zeros_like(params)
        return AccumulateState(none, number(), zeros, number(), inner_state)

    def init(params: Params) -> AccumulateState:
        return fresh(params, inner.init(params))

    def update(updates, state, params=None, **extra):
        if weighting == "items":
            check_given("accumulate", ("n_items",), extra)
        weight = extra["n_items"] if weighting == "items" else 1
        weight = jnp.asarray(weight, state.items.dtype)
        items = state.items + weight
        summed = jax.tree.map(lambda s, g: s + weight.astype(g.dtype) * g, state.gradient, updates)
        value = state.value + weight * extra.get("value", 0.0)
        whole = jnp.maximum(items, jnp.finfo(items.dtype).tiny)
        given = extra | ({"value": value / whole} if "value" in extra else {})
        if weighting == "items":
            given["n_items"] = items
        value = value.astype(state.value.dtype)

        def step():
            mean = jax.tree.map(lambda s: s / whole.astype(s.dtype), summed)
            moved, inner_state = inner.update(mean, state.inner, params, **given)
            return moved, fresh(summed, inner_state)

        def wait():
            kept = AccumulateState(state.count + 1, items, summed, value, state.inner)
            return optax.tree.zeros_like(updates), kept

        return jax.lax.cond(state.count + 1 == every, step, wait)

    return optax.GradientTransformationExtraArgs(init, update)


PARTS = {
    "accumulate": Part(
        "outermost", accumulate, "one update for several minibatches, weighted by their sizes"
    )
}
