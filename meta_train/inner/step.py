"""The one gradient of an inner step, for unrolls and for the environments of PPO alike."""

from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.base import Params
from tasks.base import Batch, Task


class Gradient(NamedTuple):
    """A minibatch, the loss on it and its gradient."""

    batch: Batch
    loss: Float[Array, ""]  # on the minibatch
    grads: Params  # as the task distorts them
    state: Any  # of the task's gradient transformation


def gradient_at(
    task: Task,
    params: Params,
    state: Any,
    batch_key: PRNGKeyArray,
    loss_key: PRNGKeyArray,
    gradient_key: PRNGKeyArray,
) -> Gradient:
    """Draws a minibatch of the training split and differentiates the loss on it.

    state: of the task's gradient transformation, which adds noise, delay and the like.
    """
    batch = task.batch(batch_key, "train")
    loss, grads = jax.value_and_grad(task.loss)(params, loss_key, batch)
    distort = optax.with_extra_args_support(task.gradient)
    grads, state = distort.update(grads, state, params, key=gradient_key)
    return Gradient(batch, loss, grads, state)
