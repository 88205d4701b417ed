"""A controller around a training loop of the user's own."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from learned_opt.base import Params, Theta
from learned_opt.compiled import compiled_update
from learned_opt.controller.actions import Values, start_values
from learned_opt.controller.driven import COMPLEMENTS, HandDriven, LearnedDriven, controlled
from learned_opt.controller.inner import Ciao, Inner
from learned_opt.controller.lhopt import LHOPT
from learned_opt.controller.network import Recurrent
from learned_opt.controller.session import Control, Session, begin, inner_step
from learned_opt.hand.ciao import DEFAULTS
from learned_opt.hand.optax_adam import DEBIAS
from learned_opt.io import read
from learned_opt.locate import locate
from learned_opt.registry import (
    HAND_DESIGNED,
    check_count,
    check_learning_rate,
    check_num_steps,
    inject,
)

DEFAULT_CONTROLLER = "lhopt"


class ControllerState(NamedTuple):
    session: Session
    recurrent: Recurrent

    @property
    def hyperparameters(self) -> Values:
        """Those in force, by the names of the controller's table."""
        return self.session.values


class Controller(NamedTuple):
    """Pure functions, as optax has them, and how often to pause.

    init: params -> state. update: (grads, state, params, **extra) -> (updates, state), one step of
    the optimizer that is driven. step: (params, state, train_loss, eval_loss) -> (params, state),
    the pause before steps 0, every, 2 * every, ...; train_loss is the mean since the last pause, or
    of the start. every: updates between pauses.
    """

    init: Callable[[Params], ControllerState]
    update: Callable[..., tuple[Params, ControllerState]]
    step: Callable[..., tuple[Params, ControllerState]]
    every: int


def controller(
    name_or_path: str | Path = DEFAULT_CONTROLLER,
    num_steps: int | None = None,
    optimizer: str | Path = "ciao",
    pauses: int | None = None,
    **hyperparameters: Any,
) -> Controller:
    """A controller of an optimizer's hyperparameters, for a training loop of `num_steps` updates.

        control = learned_opt.controller("lhopt", num_steps=N)
        state = control.init(params)
        for i in range(N):
            if i % control.every == 0:
                params, state = control.step(params, state, train_loss, eval_loss)
            updates, state = control.update(grads(params), state, params)
            params = optax.apply_updates(params, updates)

    name_or_path: packaged weights, a weight file or a run folder of a controller. optimizer:
    `ciao`, another hand-designed optimizer, of which the controller steers what it can
    (learning_rate, weight_decay, eps; b1 and b2 of rules that have debias="running", which is
    then chosen), or weights of a learned rule, whose updates it scales. pauses: at most so many
    (None: as the weights say). hyperparameters: to begin with, in the optimizer's own spelling.
    Raises WeightsError and ValueError.

    A pause can put the run back to an earlier place: go on with the parameters that `step` returns.
    Past `num_steps` pauses change nothing. An `eval_loss` that is NaN, infinite or enormous is a
    run that diverged: it goes back to where the last pause left it. `update` passes `value=` and
    other arguments on to the optimizer.
    """
    if num_steps is None:
        raise ValueError(
            "num_steps: a controller requires the number of updates of the run, since it "
            "follows the fraction of the run that is left: controller(..., num_steps=N)"
        )
    horizon = check_num_steps(num_steps)
    if not isinstance(optimizer, str | Path):
        raise ValueError(
            f"optimizer: {type(optimizer).__name__} is not allowed; a controller steers a "
            "hand-designed optimizer, by its name, or weights of a learned rule"
        )
    rule, theta, _ = read(locate(name_or_path))
    if not isinstance(rule, LHOPT):
        raise ValueError(
            f"{name_or_path}: {type(rule).__name__} is an update rule, not a controller; use it by "
            f"learned_opt.load({str(name_or_path)!r}), or as controller(..., optimizer="
            f"{str(name_or_path)!r})"
        )
    most = rule.pauses if pauses is None else check_count("pauses", pauses)
    inner, values = _inner(rule.control, optimizer, horizon, hyperparameters)
    control = replace(rule.control, inner=inner)
    return _around(rule, theta, control, values, horizon, most)


def _around(
    rule: LHOPT, theta: Theta, control: Control, values: Values, horizon: int, pauses: int
) -> Controller:
    """The functions of `Controller`; pauses: at most."""

    def init(params: Params) -> ControllerState:
        session = begin(control, params, values, min(pauses, horizon))
        return ControllerState(session, rule.policy.initial_state())

    def update(
        updates: Params, state: ControllerState, params: Params, **extra: Any
    ) -> tuple[Params, ControllerState]:
        moved, session = inner_step(control, state.session, updates, params, **extra)
        return moved, state._replace(session=session)

    def step(
        params: Params,
        state: ControllerState,
        train_loss: float | Array,
        eval_loss: float | Array,
    ) -> tuple[Params, ControllerState]:
        def pause(params: Params, state: ControllerState) -> tuple[Params, ControllerState]:
            params, session, recurrent = rule.pause(
                theta, *state, params, train_loss, eval_loss, control
            )
            return params, ControllerState(session, recurrent)

        over = state.session.pause >= state.session.pauses
        return jax.lax.cond(over, lambda p, s: (p, s), pause, params, state)

    return Controller(init, compiled_update(update), jax.jit(step), max(1, horizon // pauses))


def _check_ciao(control: Control, given: Mapping[str, Any]) -> None:
    """Raises ValueError for hyperparameters that CIAO cannot have under a controller."""
    HAND_DESIGNED["ciao"].check(given)
    logits = [action.name for action in control.table if action.kind == "logit"]
    for name, value in given.items():
        if name not in DEFAULTS:
            raise ValueError(
                f"ciao.{name}: cannot be set under a controller, which was trained on its "
                f"default (allowed: {', '.join(DEFAULTS)})"
            )
        if not isinstance(value, int | float | np.generic | Array) or np.ndim(value):
            raise ValueError(
                f"ciao.{name}: {value!r} cannot be steered; a controller starts from a number"
            )
        if name in logits and not float(np.asarray(value)) < 1.0:
            raise ValueError(
                f"ciao.{name}: {value!r} is not allowed under a controller, which edits its "
                "logit; it must be above 0 and below 1"
            )


def _inner(
    control: Control, optimizer: str | Path, horizon: int, hyperparameters: Mapping[str, Any]
) -> tuple[Inner, Values]:
    """The optimizer that is driven, and the values that are controlled, to begin with."""
    given = dict(hyperparameters)
    if optimizer == "ciao":
        _check_ciao(control, given)
        values = start_values(control.table)
        values |= {n: jnp.float32(given[n]) for n in values if n in given}
        # 0 is what no factor moves.
        values = {n: value for n, value in values.items() if n not in given or given[n] > 0.0}
        fixed = {name: value for name, value in given.items() if name not in values}
        return Ciao(tuple(fixed.items())), values
    if optimizer in HAND_DESIGNED:
        name = str(optimizer)
        entry = HAND_DESIGNED[name]
        debiased = entry.defaults.get("debias") in DEBIAS and given.get("debias") != "count"
        given |= {"debias": "running"} if debiased else {}
        tx = inject(name, horizon, **given)
        steered = jax.eval_shape(tx.init, {"w": jnp.zeros((2, 2))}).hyperparams
        owned = {"learning_rate": entry.learning_rate} | entry.defaults | given
        kept = () if debiased else COMPLEMENTS.values()  # 1 - b^t is wrong once b changes
        numbers = [n for n in steered if isinstance(owned.get(n), int | float) and n not in kept]
        owned = {n: owned[n] for n in numbers}
        eps = owned.get("eps", DEFAULTS["eps"])
        values = controlled(control.table, owned)
        if "learning_rate" not in values:
            raise ValueError(
                f"{name}.learning_rate: {given.get('learning_rate')!r} "
                "cannot be steered; a controller starts from a number above 0"
            )
        return HandDriven(tx, eps), values
    rule, theta, _ = read(locate(optimizer, other_names=HAND_DESIGNED))
    if isinstance(rule, LHOPT):
        raise ValueError(f"optimizer: {optimizer} is a controller itself")
    rate = given.pop("learning_rate", None)
    check_learning_rate(rate)
    if given:
        raise ValueError(
            f"{optimizer}.{next(iter(given))}: unknown hyperparameter; a learned rule has one "
            "that can be set: learning_rate"
        )
    tx = rule.opt(theta, horizon, learning_rate=rate)
    start = start_values(control.table)["learning_rate"]
    return LearnedDriven(tx, float(start)), {"learning_rate": start}
