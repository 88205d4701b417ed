"""An anchor as an optax transformation, with nothing learned."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from learned_opt.anchors.base import B1, Anchor, Momenta, Plan, Scalar, tensor_size
from learned_opt.base import EvalPoint, Horizon, Params
from learned_opt.columns import is_trained, leaves_like, refuse_complex, tame

MEMORY = 5.0  # the average at t forgets what is older than about t / MEMORY updates


class AnchorState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    tensors: tuple[Any, ...]  # of the anchor, for each trained leaf in order
    average: EvalPoint | None  # of the parameters, where the length of the run is not known


def as_transformation(
    anchor: Anchor[Any],
    learning_rate: Scalar,
    horizon: Horizon | None,
    b1: Scalar = B1,
) -> optax.GradientTransformation:
    """p <- p - learning_rate pace (size(p) u + decay p), u the anchor's own direction.

    horizon: updates of the run; None gives the anytime form, whose point to evaluate is a running
    average of the parameters. b1: decay of the average of gradients. Non-finite gradient entries
    count as zero; integer leaves never move. Complex leaves raise ValueError.
    """

    def init(params: Params) -> Any:
        average = start_average(params) if horizon is None else None
        return AnchorState(jnp.zeros((), jnp.int32), start_tensors(anchor, params, (b1,)), average)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        if params is None:
            raise ValueError("params: the rule sizes its step by them; pass params=")
        leaves, gradients = trained(params), gradients_of(updates, params)
        count = state.count + 1
        plan = Plan(horizon, sum(leaf.size for leaf in leaves))
        pace = learning_rate * anchor.pace(plan, count)
        tensors, directions = anchor.step(state.tensors, gradients, count, (b1,))
        steps = [
            step_along(anchor, tensor, own, leaf, pace)
            for tensor, (own, *_), leaf in zip(tensors, directions, leaves, strict=True)
        ]
        moved = moves(params, steps)
        average = state.average
        if average is not None:
            average = step_average(average, params, moved, count)
        return moved, AnchorState(count, tuple(tensors), average)

    return optax.GradientTransformation(init, update)


def trained(params: Params) -> list[Float[Array, "*_"]]:
    """The leaves that are trained, in float32."""
    return [jnp.asarray(p, jnp.float32) for p in jax.tree.leaves(params) if is_trained(p)]


def start_tensors(anchor: Anchor[Any], params: Params, momenta: Momenta) -> tuple[Any, ...]:
    """The anchor's state of each trained leaf. Raises ValueError on complex leaves."""
    refuse_complex(params)
    return tuple(anchor.init(leaf.shape, momenta) for leaf in trained(params))


def gradients_of(updates: Params, params: Params) -> list[Float[Array, "*_"]]:
    """The gradients of the trained leaves in float32, their non-finite entries as zero.

    Raises ValueError where `updates` is not like the parameters.
    """
    leaves = jax.tree.leaves(params)
    shapes = {i: jnp.shape(leaf) for i, leaf in enumerate(leaves) if is_trained(leaf)}
    found = leaves_like(updates, len(leaves), shapes)
    return [tame(jnp.asarray(found[i], jnp.float32)).reshape(s) for i, s in shapes.items()]


def step_along(
    anchor: Anchor[Any],
    tensor: Any,
    direction: Float[Array, "*s"],
    param: Float[Array, "*s"],
    pace: Scalar,
    decay_scale: Scalar = 1.0,
) -> Float[Array, "*s"]:
    """-pace (size(p) back(direction) + decay p), what one tensor moves by.

    tensor: its state. pace: with the rate in it. decay_scale: of the decay, which vectors and
    scalars do not have, and where the anchor is cautious only entries that the direction shrinks
    too (2510.12402).
    """
    # Numbers first, so that XLA has no products to reorder: all rules round alike.
    step = -(pace * tensor_size(param)) * anchor.back(tensor, direction)
    if param.ndim < 2:
        return step
    decaying = jnp.where(step * param < 0.0, param, 0.0) if anchor.cautious else param
    return step - (pace * (decay_scale * anchor.weight_decay)) * decaying


def moves(params: Params, steps: Sequence[Float[Array, "*_"]]) -> Params:
    """The steps of the trained leaves as updates: the parameters' dtypes, zero elsewhere."""
    leaves, treedef = jax.tree.flatten(params)
    each = iter(steps)
    return treedef.unflatten(
        next(each).astype(jnp.result_type(leaf)) if is_trained(leaf) else jnp.zeros_like(leaf)
        for leaf in leaves
    )


def start_average(params: Params) -> EvalPoint:
    """A copy: the user may donate the parameters."""
    return EvalPoint(jax.tree.map(jnp.array, params))


def step_average(
    average: EvalPoint, params: Params, updates: Params, count: Int[Array, ""]
) -> EvalPoint:
    """The running average with the parameters that these updates lead to."""
    share = jnp.minimum(1.0, MEMORY / (count + MEMORY))

    def one(old: Array, param: Array, update: Array) -> Float[Array, "*s"]:
        if not is_trained(param):
            return param
        return old + share.astype(old.dtype) * (param + update - old)

    return EvalPoint(jax.tree.map(one, average.params, params, updates))
