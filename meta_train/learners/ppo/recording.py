"""What a controller does on a task, recorded so that it can be replayed without the controller."""

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.base import Theta
from learned_opt.controller.lhopt import LHOPT
from learned_opt.controller.recording import Recording
from meta_train.learners.ppo.environment import Environment
from meta_train.learners.ppo.trial import by_controller, greedy, play

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
    table, pauses = rule.control.table, environment.pauses
    driver = by_controller(rule, greedy(rule, theta, pauses), pauses)
    one = lambda data, key: play(environment, data, key, driver)
    found = jax.jit(jax.vmap(one, (None, 0)))(data, keys)
    values = found.noted.values
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
    return recording, np.asarray(found.valid[:, 1:])


def without_registers(rule: LHOPT, theta: Theta) -> Theta:
    """Weights that never choose to save, load or swap."""
    if not rule.registers:
        return theta
    policy = theta["policy"]
    first = policy["heads"]["00"]
    last = first["last"] | {"b": first["last"]["b"].at[0].add(NEVER)}
    heads = policy["heads"] | {"00": first | {"last": last}}
    return theta | {"policy": policy | {"heads": heads}}
