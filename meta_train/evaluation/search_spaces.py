"""What `tune` tries: grids of rates, random draws, and an ordered list."""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from learned_opt.hand.hyperparameters import Hyperparameter
from learned_opt.hand.spec import HandDesigned
from learned_opt.naming import check_name
from meta_train.evaluation.entries import grid
from meta_train.evaluation.nadamw_list import LINES, configuration
from tasks.distributions.draws import Draws

Trial = dict[str, Any]  # hyperparameters in optax's spelling


class Space(NamedTuple):
    """trials: (rule, how many, None for the usual number) -> that many, fewer begin like more."""

    about: str
    trials: Callable[[HandDesigned, int | None], list[Trial]]


USUAL = 32  # random draws
USUAL_OF_LIST = 10


def find_trials(space: str, rule: HandDesigned, count: int | None = None) -> tuple[Trial, ...]:
    """What is tried of `rule`. Raises ValueError for names, numbers and rules that do not fit."""
    check_name("space", space, SPACES)
    trials = SPACES[space].trials(rule, count)
    for trial in trials:
        rule.check(trial)
    return tuple(trials)


def _rates(rule: HandDesigned, count: int | None) -> list[Trial]:
    """The grid of baselines, or so many half decades around the default."""
    if count is None:
        return [{"learning_rate": rate} for rate in grid(rule.name)]
    places = [(-1) ** k * ((k + 1) // 2) for k in range(count)]
    centre = np.log10(rule.learning_rate)
    return [{"learning_rate": float(f"{10 ** (centre - k / 2):.3g}")} for k in places]


def _random(name: str, draw: Callable[[HandDesigned, Draws], Trial]) -> Space:
    """Trial i depends on the name and on i alone."""
    seed = zlib.crc32(name.encode())

    def trials(rule: HandDesigned, count: int | None) -> list[Trial]:
        return [draw(rule, Draws(seed, index)) for index in range(count or USUAL)]

    return Space((draw.__doc__ or "").strip(), trials)


def _drawn(draws: Draws, within: Hyperparameter) -> float:
    if within.scale == "log":
        return draws.log_uniform(within.low, within.high)
    if within.scale == "one_minus":
        return 1.0 - draws.log_uniform(1.0 - within.high, 1.0 - within.low)
    return draws.uniform(within.low, within.high)


def _all(rule: HandDesigned, draws: Draws) -> Trial:
    """every continuous hyperparameter of the rule, within the ranges of its entry"""
    return {name: _drawn(draws, within) for name, within in rule.controls.items()}


def _adam1p(rule: HandDesigned, draws: Draws) -> Trial:
    """TaskSet's Adam1p: the rate"""
    del rule
    return {"learning_rate": draws.log_uniform(1e-8, 10.0)}


def _adam4p(rule: HandDesigned, draws: Draws) -> Trial:
    """TaskSet's Adam4p: and b1, b2, eps"""
    return _adam1p(rule, draws) | {
        "b1": 1.0 - draws.log_uniform(1e-4, 1.0),
        "b2": 1.0 - draws.log_uniform(1e-6, 1.0),
        "eps": draws.log_uniform(1e-10, 1e3),
    }


def _adam6p(rule: HandDesigned, draws: Draws) -> Trial:
    """TaskSet's Adam6p: and a linear and an exponential decay of the rate; for taskset_adam"""
    return _adam4p(rule, draws) | {
        "linear_decay": draws.log_uniform(1e-7, 1e-4),
        "exponential_decay": draws.log_uniform(1e-6, 1e-3),
    }


def _adam8p(rule: HandDesigned, draws: Draws) -> Trial:
    """TaskSet's Adam8p: and penalties l1 and l2; for taskset_adam"""
    return _adam6p(rule, draws) | {
        "l1": draws.log_uniform(1e-8, 10.0),
        "l2": draws.log_uniform(1e-8, 10.0),
    }


def _nadamw(rule: HandDesigned, draws: Draws) -> Trial:
    """TaskSet's NAdamW, from which its list was made; for nadamw_optlist"""
    del rule
    decay = draws.integer(0, 2)  # weight decay, l2, or both
    return {
        "learning_rate": draws.log_uniform(1e-5, 1.0),
        "b1": 1.0 - draws.log_uniform(1e-3, 1.0),
        "b2": 1.0 - draws.log_uniform(1e-5, 1.0),
        "eps": draws.log_uniform(1e-8, 1e4),
        "nesterov": draws.chance(0.5),
        "weight_decay": draws.log_uniform(1e-5, 0.1) if decay != 1 else 0.0,
        "l2": draws.log_uniform(1e-5, 0.1) if decay != 0 else 0.0,
        "warmup_fraction": draws.log_uniform(1e-5, 0.1) if draws.chance(0.5) else 0.0,
        "final_fraction": draws.log_uniform(1e-5, 1.0) if draws.chance(0.5) else 0.0,
        "constant_fraction": draws.uniform(),
    }


def _listed(rule: HandDesigned, count: int | None) -> list[Trial]:
    del rule
    count = count or USUAL_OF_LIST
    if count > len(LINES):
        raise ValueError(f"trials: {count} is not allowed; opt_list has {len(LINES)}")
    return [configuration(number) for number in range(count)]


SPACES: dict[str, Space] = {
    "learning_rate": Space("half decades of the rate", _rates),
    "opt_list": Space("the ordered list of arXiv:2002.11887; for nadamw_optlist", _listed),
    **{
        name: _random(name, draw)
        for name, draw in (
            ("all", _all),
            ("adam1p", _adam1p),
            ("adam4p", _adam4p),
            ("adam6p", _adam6p),
            ("adam8p", _adam8p),
            ("nadamw", _nadamw),
        )
    },
}
