"""An anchor as an optax transformation, with nothing learned."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from learned_opt.anchors.base import Anchor, Plan, tensor_size
from learned_opt.base import EvalPoint, Horizon, Params
from learned_opt.columns import is_trained, leaves_like, refuse_complex, tame
from learned_opt.hand.hyperparameters import Scalar

MEMORY = 5.0  # the average at t forgets what is older than about t / MEMORY updates


class AnchorState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    tensors: tuple[Any, ...]  # of the anchor, for each trained leaf in order
    average: EvalPoint | None  # of the parameters, where the length of the run is not known


def as_transformation(
    anchor: Anchor[Any],
    learning_rate: Scalar,
    horizon: Horizon | None,
    weight_decay: Scalar = 0.0,
) -> optax.GradientTransformation:
    """p <- p - learning_rate pace (size(p) u + weight_decay p), u the anchor's own direction.

    horizon: updates of the run; None gives the anytime form, whose point to evaluate is a running
    average of the parameters. weight_decay: acts on tensors of rank 2 and more. Non-finite gradient
    entries count as zero; integer leaves never move. Complex leaves raise ValueError.
    """

    def init(params: Params) -> AnchorState:
        refuse_complex(params)
        leaves = jax.tree.leaves(params)
        tensors = tuple(anchor.init(jnp.shape(leaf)) for leaf in leaves if is_trained(leaf))
        # A copy: the user may donate the parameters.
        average = None if horizon is not None else EvalPoint(jax.tree.map(jnp.array, params))
        return AnchorState(jnp.zeros((), jnp.int32), tensors, average)

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("params: the rule sizes its step by them; pass params=")
        leaves, treedef = jax.tree.flatten(params)
        trained = {i: jnp.shape(leaf) for i, leaf in enumerate(leaves) if is_trained(leaf)}
        gradients = leaves_like(updates, len(leaves), trained)
        count = state.count + 1
        plan = Plan(horizon, sum(leaves[i].size for i in trained))
        pace = learning_rate * anchor.pace(plan, count)
        tensors, directions = anchor.step(
            state.tensors,
            [
                tame(jnp.asarray(gradients[i], jnp.float32)).reshape(shape)
                for i, shape in trained.items()
            ],
            count,
        )
        moved = [jnp.zeros_like(leaf) for leaf in leaves]
        for i, tensor, (direction, *_) in zip(trained, tensors, directions, strict=True):
            param = jnp.asarray(leaves[i], jnp.float32)
            step = tensor_size(param) * anchor.back(tensor, direction)
            if param.ndim >= 2:
                step = step + weight_decay * param
            moved[i] = (-pace * step).astype(jnp.result_type(leaves[i]))
        moved = treedef.unflatten(moved)
        average = state.average
        if average is not None:
            average = EvalPoint(_average(average.params, params, moved, count))
        return moved, AnchorState(count, tuple(tensors), average)

    return optax.GradientTransformation(init, update)


def _average(average: Params, params: Params, updates: Params, count: Int[Array, ""]) -> Params:
    """The average with the parameters that these updates lead to."""
    share = jnp.minimum(1.0, MEMORY / (count + MEMORY))

    def one(old: Array, param: Array, update: Array) -> Float[Array, "*s"]:
        if not is_trained(param):
            return param
        return old + share.astype(old.dtype) * (param + update - old)

    return jax.tree.map(one, average, params, updates)
