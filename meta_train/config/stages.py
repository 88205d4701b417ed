"""A run's config as stages: what holds from which meta-step on."""

from typing import NamedTuple

from meta_train.config.model import Config
from tasks.distributions.sampled import Sampled


class Stage(NamedTuple):
    start: int  # meta-steps made before it begins
    config: Config  # of this stage alone: no phases, sampled blocks moved on


def stages(config: Config) -> tuple[Stage, ...]:
    """The stages of a run in order, the first from 0: one for each phase and each new sample."""
    found: list[Stage] = []
    current = config.model_copy(update={"phases": ()})
    starts = [0, *(phase.at for phase in config.phases)]
    ends = [*starts[1:], max(config.steps, starts[-1] + 1)]
    changes = [{}, *(phase.changes for phase in config.phases)]
    draws = 0
    for start, end, change in zip(starts, ends, changes, strict=True):
        current = current.model_copy(update=change)
        draws = 0 if "tasks" in change else draws
        found.append(Stage(start, _moved_on(current, draws)))
        for begin in _multiples(current.resample_every if _samples(current) else None, start, end):
            draws += 1
            found.append(Stage(begin, _moved_on(current, draws)))
    return tuple(found)


def _multiples(every: int | None, start: int, end: int) -> range:
    """Those strictly between start and end."""
    return range(start + every - start % every, end, every) if every else range(0)


def _samples(config: Config) -> bool:
    return any(block.target is Sampled for block in config.tasks)


def _moved_on(config: Config, draws: int) -> Config:
    """The config with every sampled block at its tasks after `draws` others of its count."""
    tasks = tuple(
        block.model_copy(update={"first": block.first + draws * block.count})
        if block.target is Sampled
        else block
        for block in config.tasks
    )
    return config.model_copy(update={"tasks": tasks})
