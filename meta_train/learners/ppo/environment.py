"""Any task family as an environment: training runs of K pauses, and what a baseline makes of them.

Written for one run; callers vmap. A run that diverges stays within its own numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped

from learned_opt.base import Params
from learned_opt.controller.session import LARGEST_LOSS
from meta_train.inner.step import gradient_at
from tasks.base import Cfg, Data, Task, TaskFamily


@dataclass(frozen=True)
class Environment:
    """Runs of `pauses` times `steps` updates on one family; one compiled shape."""

    name: str
    family: TaskFamily
    pauses: int
    steps: int


# (gradients, state, params, loss, whether it is the first of a block) -> (updates, state)
Update = Callable[[Params, Any, Params, Array, bool], tuple[Params, Any]]


class Run(NamedTuple):
    """One training run in flight."""

    params: Params
    state: Any  # of what updates them
    gradient_state: Any  # of the task's gradient transformation


def draw_task(environment: Environment, key: PRNGKeyArray, sample: int | Array) -> Cfg:
    """The bucket's task of number `sample`; key: the same for the whole meta-training."""
    return environment.family.sample(jax.random.fold_in(key, sample))


def stretch(
    environment: Environment,
    task: Task,
    run: Run,
    key: PRNGKeyArray,
    update: Update,
    block: int = 1,
) -> tuple[Run, Float[Array, ""]]:
    """The updates between two pauses: (run, mean training loss before them).

    block: updates that are compiled as one piece; `update` is given which is the first of each.
    """

    def step(run: Run, keys: Shaped[PRNGKeyArray, " 3"], first: bool):
        _, loss, grads, gradient_state = gradient_at(task, run.params, run.gradient_state, *keys)
        updates, state = update(grads, run.state, run.params, loss, first)
        return Run(optax.apply_updates(run.params, updates), state, gradient_state), loss

    def piece(run: Run, keys: Shaped[PRNGKeyArray, "block 3"]):
        losses = []
        for number, at in enumerate(keys):
            run, loss = step(run, at, number == 0)
            losses.append(loss)
        return run, jnp.stack(losses)

    keys = jax.random.split(key, (environment.steps, 3))
    whole, rest = divmod(environment.steps, block)
    run, losses = jax.lax.scan(piece, run, keys[: whole * block].reshape(whole, block, 3))
    losses = losses.ravel()
    if rest:
        run, last = piece(run, keys[whole * block :])
        losses = jnp.concatenate([losses, last])
    return run, jnp.mean(losses)


def ruled(rule: optax.GradientTransformation) -> Update:
    """A rule's updates; it reads neither the loss nor where it stands."""

    def update(
        grads: Params, state: Any, params: Params, loss: Array, first: bool
    ) -> tuple[Params, Any]:
        del loss, first
        return rule.update(grads, state, params)

    return update


def evaluate(task: Task, params: Params, key: PRNGKeyArray) -> Float[Array, ""]:
    """The loss on the whole inner_valid split; `key` is the same at all pauses of a run."""
    return task.loss(params, key, task.whole("inner_valid"))


def first_losses(
    task: Task, params: Params, key: PRNGKeyArray, eval_key: PRNGKeyArray
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(training, evaluation) before any update; the first on one minibatch."""
    batch_key, loss_key = jax.random.split(key)
    loss = task.loss(params, loss_key, task.batch(batch_key, "train"))
    return loss, evaluate(task, params, eval_key)


def is_lost(loss: Float[Array, ""], first: Float[Array, ""]) -> Bool[Array, ""]:
    """Whether a run with these evaluation losses, now and at its start, has diverged."""
    return ~(loss <= LARGEST_LOSS * jnp.fmax(1.0, jnp.abs(first)))


def baseline_losses(
    environment: Environment,
    rule: optax.GradientTransformation,
    data: Data,
    cfg: Cfg,
    key: PRNGKeyArray,
) -> Float[Array, " points"]:
    """Evaluation losses of one run under `rule`: before the first update and at every pause."""
    task = environment.family.task(cfg, data)
    init_key, eval_key, steps_key = jax.random.split(key, 3)
    params = task.init(init_key)
    run = Run(params, rule.init(params), task.gradient.init(params))

    def pause(run: Run, key: PRNGKeyArray):
        run, _ = stretch(environment, task, run, key, ruled(rule))
        return run, evaluate(task, run.params, eval_key)

    keys = jax.random.split(steps_key, environment.pauses)
    _, losses = jax.lax.scan(pause, run, keys)
    return jnp.concatenate([evaluate(task, params, eval_key)[None], losses])
