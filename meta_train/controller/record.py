"""What a controller does on a task, recorded so that it can be replayed without the controller."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.base import Theta
from learned_opt.controller.actions import start_values
from learned_opt.controller.lhopt import LHOPT
from learned_opt.controller.recording import Recording
from learned_opt.controller.session import begin
from meta_train.controller.environment import Environment, Run, evaluate, first_losses, stretch
from meta_train.controller.rollout import controlled
from tasks.base import Data

NEVER = 1e9  # by which the logit of "no change" leads


def record(
    rule: LHOPT, theta: Theta, environment: Environment, seeds: int, controller: str = ""
) -> tuple[Recording, np.ndarray]:
    """(the hyperparameters of greedy runs, their validation losses [seed, pause]).

    Every run draws a task of its own and begins with the table's values. Registers stay unused: a
    run that goes back somewhere else has no one line of hyperparameters. controller: its name.
    """
    data = jax.tree.map(jnp.asarray, environment.family.load())
    keys = jax.random.split(jax.random.key(0), seeds)
    theta = without_registers(rule, theta)
    one = lambda data, key: controlled_run(rule, theta, environment, data, key)
    values, losses = jax.jit(jax.vmap(one, (None, 0)))(data, keys)
    table = rule.control.table
    digits = lambda run: tuple(float(f"{x:.8g}") for x in run)
    runs = {action.name: tuple(map(digits, np.asarray(values[action.name]))) for action in table}
    recording = Recording(
        inner="ciao",
        source=environment.name,
        num_steps=environment.pauses * environment.steps,
        start={action.name: action.start for action in table},
        runs=runs,
        logit=tuple(action.name for action in table if action.kind == "logit"),
        controller=controller,
    )
    return recording, np.asarray(losses)


def controlled_run(
    rule: LHOPT, theta: Theta, environment: Environment, data: Data, key: PRNGKeyArray
) -> tuple[dict[str, Float[Array, " pauses"]], Float[Array, " pauses"]]:
    """(values in force after every pause, validation losses before the next one) of one run.

    Task, start and minibatches are those of a baseline's run with the same key.
    """
    cfg_key, run_key = jax.random.split(key)
    task = environment.family.task(environment.family.sample(cfg_key), data)
    init_key, eval_key, steps_key = jax.random.split(run_key, 3)
    params, update = task.init(init_key), controlled(rule.control)

    def pause(carry: Any, key: PRNGKeyArray):
        run, recurrent, train_loss, eval_loss = carry
        params, session, recurrent = rule.pause(
            theta, run.state, recurrent, run.params, train_loss, eval_loss
        )
        run = Run(params, session, run.gradient_state)
        run, train_loss = stretch(environment, task, run, key, update)
        eval_loss = evaluate(task, run.params, eval_key)
        return (run, recurrent, train_loss, eval_loss), (session.values, eval_loss)

    losses = first_losses(task, params, jax.random.fold_in(steps_key, 0), eval_key)
    session = begin(rule.control, params, start_values(rule.control.table), environment.pauses)
    run = Run(params, session, task.gradient.init(params))
    keys = jax.random.split(steps_key, environment.pauses)
    return jax.lax.scan(pause, (run, rule.policy.initial_state(), *losses), keys)[1]


def without_registers(rule: LHOPT, theta: Theta) -> Theta:
    """Weights that never choose to save, load or swap."""
    if not rule.registers:
        return theta
    policy = theta["policy"]
    first = policy["heads"]["00"]
    last = first["last"] | {"b": first["last"]["b"].at[0].add(NEVER)}
    heads = policy["heads"] | {"00": first | {"last": last}}
    return theta | {"policy": policy | {"heads": heads}}
