"""A whole episode in one program: a scan over pauses, of scans over inner steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from learned_opt.base import Params
from learned_opt.controller.actions import Values
from learned_opt.controller.history import History
from learned_opt.controller.session import (
    STATISTICS_EVERY,
    Control,
    Session,
    act,
    begin,
    inner_step,
    observe,
)
from meta_train.learners.ppo.agent import Choice, Seen
from meta_train.learners.ppo.critic import Bar, fresh_history, privileged
from meta_train.learners.ppo.environment import (
    Environment,
    Run,
    Update,
    evaluate,
    first_losses,
    is_lost,
    stretch,
)
from meta_train.learners.ppo.reward import reward
from tasks.base import Cfg, Data

Choose = Callable[[Any, Seen, PRNGKeyArray], tuple[Any, Choice]]  # (memory, seen, key)


class Episode(NamedTuple):
    """One run as the policy and the critic lived it; leading axis: pauses, but for the reward."""

    seen: Seen
    choice: Choice
    values: Values  # in force after the choice
    losses: Float[Array, "*_ points"]  # on inner_valid, before the first step and after each pause
    lost: Bool[Array, "*_"]  # whether the run was diverged at its end
    reward: Float[Array, "*_"]


class _Carry(NamedTuple):
    run: Run  # its state is the Session
    memory: Any
    history: History  # of the critic's own
    train_loss: Array
    eval_loss: Array


def controlled(control: Control) -> Update:
    """A session's updates; all runs of a program take statistics at the same steps."""

    def update(
        grads: Params, session: Session, params: Params, loss: Array, first: bool
    ) -> tuple[Params, Session]:
        return inner_step(control, session, grads, params, measured=first, value=loss)

    return update


def episode(
    environment: Environment,
    control: Control,
    data: Data,
    cfg: Cfg,
    bar: Bar,
    cap: float,
    values: Values,
    memory: Any,
    choose: Choose,
    key: PRNGKeyArray,
) -> Episode:
    """One run under a controller.

    cfg: the task. bar, cap: what its end is rewarded by. values: the hyperparameters it begins
    with. memory: the controller's at the start.
    """
    task = environment.family.task(cfg, data)
    # As in a baseline's run, so that both begin alike.
    init_key, eval_key, steps_key = jax.random.split(key, 3)
    params = task.init(init_key)
    update = controlled(control)

    def pause(carry: _Carry, key: PRNGKeyArray):
        choice_key, stretch_key = jax.random.split(key)
        params, session = carry.run.params, carry.run.state
        session, observation = observe(control, session, params, carry.train_loss, carry.eval_loss)
        history, more = privileged(
            bar, control.table, session.start, carry.train_loss, carry.eval_loss, carry.history, cap
        )
        seen = Seen(observation, more)
        memory, choice = choose(carry.memory, seen, choice_key)
        params, session = act(control, session, params, choice.choices)
        run = Run(params, session, carry.run.gradient_state)
        run, train_loss = stretch(environment, task, run, stretch_key, update, STATISTICS_EVERY)
        eval_loss = evaluate(task, run.params, eval_key)
        carry = _Carry(run, memory, history, train_loss, eval_loss)
        return carry, (seen, choice, session.values, eval_loss)

    first_key, pauses_key = jax.random.split(steps_key)
    train_loss, eval_loss = first_losses(task, params, first_key, eval_key)
    session = begin(control, params, values, environment.pauses)
    run = Run(params, session, task.gradient.init(params))
    carry = _Carry(run, memory, fresh_history(), train_loss, eval_loss)
    keys = jax.random.split(pauses_key, environment.pauses)
    carry, (seen, choice, values, losses) = jax.lax.scan(pause, carry, keys)
    lost = is_lost(carry.eval_loss, eval_loss)
    final = jnp.where(lost, jnp.nan, carry.eval_loss)
    losses = jnp.concatenate([eval_loss[None], losses])
    return Episode(seen, choice, values, losses, lost, reward(bar.curve, final, cap))
