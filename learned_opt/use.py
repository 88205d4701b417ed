"""The way in for users: weights or a name, turned into an optax transformation."""

from pathlib import Path
from typing import Any

import jax
import optax

from learned_opt.base import LearnedOptimizer, is_anytime, reads_eval_value
from learned_opt.compiled import compiled
from learned_opt.controller.lhopt import LHOPT
from learned_opt.decay import decayed
from learned_opt.io import read
from learned_opt.learned.anchored_soap import AnchoredSoap
from learned_opt.locate import locate
from learned_opt.registry import (
    HAND_DESIGNED,
    check_learning_rate,
    check_num_steps,
    check_weight_decay,
    make,
)
from learned_opt.stand_in import Loss, can_miss_value, warn_of_missing

DEFAULT = "relative_soap"


def load(
    name_or_path: str | Path | None = None,
    num_steps: int | None = None,
    learning_rate: float | None = None,
    labels: Any = None,
    weight_decay: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer, ready for an optax training loop.

    name_or_path: packaged weights, a weight file, a run folder, or the name of a hand-designed
    optimizer (None: "relative_soap", in which nothing is learned). num_steps: updates the training
    run will make, at least 1; after them schedules hold their last value, except for velo and
    Celo's, which read on. None: not known, for relative_soap and anchored_soap; 10,000 for other
    rules, but velo, celo, celo_adam and lhopt require it. learning_rate: a finite number above 0
    that replaces the rule's starting rate where it has one. labels: which way each parameter goes,
    for celo2 alone: "network" or "adam" in a tree like that of the parameters, where one name may
    stand for a subtree, or a function from parameters to such a tree. weight_decay: decoupled, a
    finite number from 0 on. A learned rule with the step u then makes p + u - weight_decay RMS(u) /
    max(RMS(p), 0.05) p of each tensor p of rank 2 and above; a hand-designed one decays in its own
    way. Raises WeightsError (a ValueError) and ValueError.

    `tx.update(grads, state, params, value=loss)`: value= is accepted by all, and read by the rules
    that use it. Those that read a validation loss take `eval_value=` beside it, NaN where there is
    none this step; where it is never given the training loss stands in for it. A rule that
    reads a loss and is not given it warns once. Evaluate and save
    `learned_opt.eval_params(state, params)`.
    """
    length = check_num_steps(num_steps)
    check_learning_rate(learning_rate)
    check_weight_decay(weight_decay)
    name = DEFAULT if name_or_path is None else name_or_path
    if name in HAND_DESIGNED:
        if labels is not None:
            raise ValueError(f"labels: {name} takes none; learned_opt.make({name!r}, groups=...)")
        chosen = _hyperparameters(str(name), learning_rate, weight_decay)
        return make(str(name), num_steps, **chosen)
    rule, theta, _ = read(locate(name, other_names=HAND_DESIGNED))
    if num_steps is None and getattr(rule, "needs_num_steps", False):
        raise ValueError(
            f"num_steps: {name} requires the number of updates of the run, since its step "
            f"size follows the fraction of the run that is left: load({str(name)!r}, num_steps=...)"
        )
    if labels is not None and not hasattr(rule, "labels"):
        raise ValueError(f"labels: {name} takes none; it moves all parameters in one way")
    routed = {} if labels is None else {"labels": labels}
    if weight_decay is not None and isinstance(rule, AnchoredSoap):
        rule, weight_decay = rule.decaying(weight_decay), None
    horizon = None if num_steps is None and is_anytime(rule) else length
    tx = rule.opt(theta, horizon, learning_rate=learning_rate, **routed)
    losses: dict[Loss, bool] = {
        "value": can_miss_value(tx),
        "eval_value": reads_eval_value(rule),
    }
    tx = _keeping_dtypes(optax.with_extra_args_support(tx))
    if weight_decay:
        _check_takes_decay(str(name), rule)
        tx = decayed(str(name), tx, weight_decay)
    return warn_of_missing(str(name), compiled(tx), [loss for loss in losses if losses[loss]])


def _hyperparameters(
    name: str, learning_rate: float | None, weight_decay: float | None
) -> dict[str, Any]:
    """Those of a hand-designed optimizer that `load` is given."""
    given = {"learning_rate": learning_rate, "weight_decay": weight_decay}
    if "weight_decay" not in HAND_DESIGNED[name].defaults:
        if weight_decay:
            raise ValueError(f"weight_decay: {name} takes none")
        del given["weight_decay"]
    return {argument: value for argument, value in given.items() if value is not None}


def _check_takes_decay(name: str, rule: LearnedOptimizer) -> None:
    if isinstance(rule, LHOPT):
        raise ValueError(
            f"weight_decay: {name} takes none; it chooses the one of the optimizer that it steers, "
            f"learned_opt.controller({name!r}, weight_decay=...) the one to begin with"
        )


def _keeping_dtypes(
    tx: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """`tx` whose state keeps its dtypes under `jax_enable_x64`, so that it can be scanned."""

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        updates, after = tx.update(updates, state, params, **extra)
        same = lambda new, old: new if new.dtype == old.dtype else new.astype(old.dtype)
        return updates, jax.tree.map(same, after, state)

    return optax.GradientTransformationExtraArgs(tx.init, update)
