"""How an optimizer sets its rate: constant and scheduled forms are different baselines."""

from learned_opt.base import LearnedOptimizer
from learned_opt.hand.spec import HandDesigned

LEARNED, CONSTANT = "learned", "constant"


def form_of(optimizer: LearnedOptimizer) -> str:
    """`learned`; else `constant`, the name of a schedule, or `built in` for one of its own."""
    if not isinstance(optimizer, HandDesigned):
        return LEARNED
    schedule = optimizer.defaults.get("schedule", "built in")
    return schedule["name"] if isinstance(schedule, dict) else schedule
