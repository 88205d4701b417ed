"""A rule that moves every tensor by itself, as an optax transformation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from learned_opt.base import Params
from learned_opt.learned.parts.features import clip_gradient
from learned_opt.learned.parts.stacks import Stacks


class TensorwiseState(NamedTuple):
    """float32 whatever the parameters are; every field changes every step."""

    count: Int[Array, ""]  # updates made so far
    memories: tuple[Any, ...]  # one for each shape, in order of first appearance


def tensorwise(
    owner: str,
    fresh: Callable[[int, tuple[int, ...]], Any],
    step: Callable[[Any, Array, Array, Array], tuple[Array, Any]],
) -> optax.GradientTransformationExtraArgs:
    """The transformation of rule `owner`, which reads no arguments of `update` but params.

    fresh: the memory of a stack, from the number of its tensors and their shape. step: from the
    memory of one tensor, its clipped gradient and itself, in float32, and the count of updates made
    before, the change of the tensor and its new memory.
    """

    def init(params: Params) -> TensorwiseState:
        stacks = Stacks.of(params)
        pairs = zip(stacks.counts, stacks.shapes, strict=True)
        return TensorwiseState(jnp.zeros((), jnp.int32), tuple(fresh(n, s) for n, s in pairs))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        del extra
        if params is None:
            raise ValueError(f"params: {owner} reads them, pass params")
        stacks = Stacks.of(params)
        moves, memories = [], []
        for memory, gradients, tensors in zip(
            state.memories, stacks.gather(updates), stacks.gather(params), strict=True
        ):
            every = jax.vmap(step, in_axes=(0, 0, 0, None))
            move, memory = every(memory, clip_gradient(gradients), tensors, state.count)
            moves.append(move)
            memories.append(memory)
        state = TensorwiseState(state.count + 1, tuple(memories))
        return stacks.scatter(moves, params), state

    return optax.GradientTransformationExtraArgs(init, update)
