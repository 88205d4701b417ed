"""Runs on one task that differ in what makes the updates, a controller or a rule; paired by key.

Every function is of one run; callers vmap over keys and jit. Two runs with the same key have the
same task, start and minibatches.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from learned_opt.base import Params, Theta
from learned_opt.controller.actions import Values, start_values
from learned_opt.controller.lhopt import LHOPT
from learned_opt.controller.network import Recurrent
from learned_opt.controller.session import STATISTICS_EVERY, Session, act, begin, observe
from meta_train.learners.ppo.environment import (
    Environment,
    Run,
    Update,
    evaluate,
    first_losses,
    is_lost,
    ruled,
    stretch,
)
from meta_train.learners.ppo.rollout import controlled
from tasks.base import Data


class Driver(NamedTuple):
    """What makes the updates of a run.

    begin: params -> state. pause: (params, state, mean training loss since the last pause,
    validation loss) -> (params, state, what to note of it). update: one inner step.
    """

    begin: Callable[[Params], Any]
    pause: Callable[[Params, Any, Array, Array], tuple[Params, Any, Any]]
    update: Update
    block: int = 1


class Trial(NamedTuple):
    """What came of one run; losses before the first update and after each stretch."""

    valid: Float[Array, "*runs points"]  # on inner_valid, which controllers see
    test: Float[Array, "*runs points"]
    diverged: Bool[Array, "*runs"]  # at its end
    noted: Any  # of every pause


class Decision(NamedTuple):
    """A pause under a controller: the values in force after it, and the choices that were made."""

    values: Values
    choices: Int[Array, "*pauses heads"]


class Plan(NamedTuple):
    """How a controller is asked; arrays, so that one compiled program serves every plan.

    theta: its weights. values: the hyperparameters that the run begins with. choices: made in place
    of its own where `forced`.
    """

    theta: Theta
    values: Values
    choices: Int[Array, "pauses heads"]
    forced: Bool[Array, ""]


def greedy(rule: LHOPT, theta: Theta, pauses: int) -> Plan:
    """The controller as it is used: the table's values, and its own choices."""
    nothing = jnp.zeros((pauses, len(rule.control.heads)), jnp.int32)
    return Plan(theta, start_values(rule.control.table), nothing, jnp.array(False))


def play(environment: Environment, data: Data, key: PRNGKeyArray, driver: Driver) -> Trial:
    """One run; its task is drawn from the family."""
    cfg_key, run_key = jax.random.split(key)
    task = environment.family.task(environment.family.sample(cfg_key), data)
    init_key, eval_key, steps_key = jax.random.split(run_key, 3)
    params = task.init(init_key)

    def test(params: Params) -> Float[Array, ""]:
        return task.loss(params, eval_key, task.whole("test"))

    def segment(carry: Any, key: PRNGKeyArray):
        run, train_loss, eval_loss = carry
        params, state, noted = driver.pause(run.params, run.state, train_loss, eval_loss)
        run = Run(params, state, run.gradient_state)
        run, train_loss = stretch(environment, task, run, key, driver.update, driver.block)
        eval_loss = evaluate(task, run.params, eval_key)
        return (run, train_loss, eval_loss), (eval_loss, test(run.params), noted)

    train_loss, eval_loss = first_losses(task, params, jax.random.fold_in(steps_key, 0), eval_key)
    run = Run(params, driver.begin(params), task.gradient.init(params))
    keys = jax.random.split(steps_key, environment.pauses)
    carry = run, train_loss, eval_loss
    (_, _, last), (valid, tested, noted) = jax.lax.scan(segment, carry, keys)
    return Trial(
        jnp.concatenate([eval_loss[None], valid]),
        jnp.concatenate([test(params)[None], tested]),
        is_lost(last, eval_loss),
        noted,
    )


def by_controller(rule: LHOPT, plan: Plan, pauses: int) -> Driver:
    """CIAO under a controller that chooses what is likeliest, or as the plan says."""
    control, update = rule.control, controlled(rule.control)

    def start(params: Params) -> tuple[Session, Recurrent]:
        return begin(control, params, plan.values, pauses), rule.policy.initial_state()

    def pause(params: Params, state: Any, train_loss: Array, eval_loss: Array):
        session, recurrent = state
        number = session.pause
        session, seen = observe(control, session, params, train_loss, eval_loss)
        recurrent, likeliest = rule.likeliest(plan.theta, recurrent, seen)
        choices = jnp.where(plan.forced, plan.choices[number], likeliest)
        params, session = act(control, session, params, choices)
        return params, (session, recurrent), Decision(session.values, choices)

    def step(grads: Params, state: Any, params: Params, loss: Array, first: bool):
        updates, session = update(grads, state[0], params, loss, first)
        return updates, (session, state[1])

    return Driver(start, pause, step, STATISTICS_EVERY)


def by_rule(rule: optax.GradientTransformation) -> Driver:
    """Any optax transformation by itself."""
    return Driver(rule.init, lambda params, state, *losses: (params, state, ()), ruled(rule))
