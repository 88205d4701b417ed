"""The lines of a table: optimizers by name or path, and baselines, tuned or as they come."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from learned_opt import io
from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.hand.schedules import SCHEDULES
from learned_opt.hand.spec import HandDesigned
from learned_opt.naming import check_name
from learned_opt.registry import HAND_DESIGNED
from meta_train import yaml_subset
from meta_train.evaluation.programs import Setting
from meta_train.evaluation.results import TUNED

STANDARD = ("adam", "adamw+warmup_cosine", "adam_1e-3", "relative_adam", "relative_soap")
UNTUNED = ("relative_adam", "relative_soap")
LEARNED, CONSTANT = "learned", "constant"  # how a rule sets its rate; a schedule has a name
DEFAULT = "default"  # after a name: as it comes


def half_decades(low: float, count: int) -> tuple[float, ...]:
    """`count` rates from 10^low on, each a half decade above the one before."""
    return tuple(float(f"{10 ** (low + k / 2):.3g}") for k in range(count))


NARROW = half_decades(-4, 7)  # 1e-4 to 1e-1
WIDE = half_decades(-7, 15)  # 1e-7 to 1
WIDE_HIGH = half_decades(-6, 15)  # 1e-6 to 10, for rules whose own rates are higher
GRIDS = {
    **dict.fromkeys(("rmsprop", "sgd"), NARROW),
    **dict.fromkeys(("adam", "adamw", "soap"), WIDE),
    **dict.fromkeys(("muon", "schedule_free_adamw"), WIDE_HIGH),
}


class Entry(NamedTuple):
    """One line of a report: an optimizer with its weights.

    trials: hyperparameters of each; where there are any, each task gets those with the least mean
    final training loss over the seeds. A learned rule has `learning_rate` alone.
    """

    name: str
    optimizer: LearnedOptimizer
    theta: Theta
    trials: tuple[dict[str, Any], ...] = ()

    @property
    def settings(self) -> list[Setting]:
        """One, or one for each trial."""
        if not self.trials:
            return [Setting(self.optimizer, self.theta)]
        if isinstance(self.optimizer, HandDesigned):
            # As theta, so that the grid shares one program with the untuned entry of the rule.
            return [setting(self.optimizer, **trial) for trial in self.trials]
        rates = [np.float32(trial["learning_rate"]) for trial in self.trials]
        return [Setting(self.optimizer, self.theta, rate) for rate in rates]


def setting(rule: HandDesigned, **hyperparameters: Any) -> Setting:
    """The rule with hyperparameters in place of its defaults; numbers become weights.

    Raises ValueError.
    """
    rule.check(hyperparameters)
    values = {"learning_rate": rule.learning_rate} | hyperparameters
    fixed = {name: values.pop(name) for name in rule.static if name in values}
    theta = {"log_learning_rate": np.log(np.float32(values.pop("learning_rate")))}
    theta |= {name: np.float32(value) for name, value in values.items()}
    return Setting(rule.including(**fixed) if fixed else rule, theta)


def grid(name: str) -> tuple[float, ...]:
    """The rates a baseline is tuned over: half decades, seven around its default unless listed.

    What people use gets 15, with and without a schedule: adam, adamw and soap from 1e-7 to 1, muon
    and schedule_free_adamw from 1e-6 to 10.
    """
    around = half_decades(np.log10(HAND_DESIGNED[name].learning_rate) - 1.5, 7)
    return GRIDS.get(name, around)


def find_rule(name: str, what: str = "optimizer") -> HandDesigned:
    """A hand-designed optimizer: NAME[:key=value:...][+SCHEDULE], with hyperparameters of its own.

    Raises ValueError.
    """
    chosen, plus, schedule = name.partition("+")
    rule, *pairs = chosen.split(":")
    check_name(what, rule, HAND_DESIGNED)
    found = HAND_DESIGNED[rule].including(**yaml_subset.parse_pairs(f"{what}, {rule}", pairs))
    if not plus:
        return found
    check_name(f"{what}, schedule of {rule}", schedule, SCHEDULES)
    return found.including(schedule=schedule)


def names_rule(name: str) -> bool:
    """Whether a name, of whatever form `find_rule` takes, is one of a hand-designed optimizer."""
    return re.split("[:+]", name)[0] in HAND_DESIGNED


def standard_baselines(names: Sequence[str] | None = None) -> list[Entry]:
    """Hand-designed entries by name, those of STANDARD by default.

    NAME and NAME+SCHEDULE are tuned per task over the rates of `grid`, and are entries of their
    own; NAME_RATE is run at that rate and NAME_default as it comes, as are relative_adam and
    relative_soap always.
    """
    return [_baseline(name) for name in (STANDARD if names is None else names)]


def _baseline(name: str) -> Entry:
    bare, at = _split(name)
    rule = find_rule(bare, "baselines")
    if at is None and bare not in UNTUNED:
        trials = tuple({"learning_rate": rate} for rate in grid(rule.name))
        return Entry(name + TUNED, rule, setting(rule).theta, trials)
    chosen = {} if at in (None, DEFAULT) else {"learning_rate": float(at)}
    return Entry(name, rule, setting(rule, **chosen).theta)


def _split(name: str) -> tuple[str, str | None]:
    """NAME, and what stands behind its last underscore where that is a rate or `default`."""
    bare, _, end = name.rpartition("_")
    if name in HAND_DESIGNED or not (bare and (end == DEFAULT or _is_number(end))):
        return name, None
    return bare, end


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def form_of(optimizer: LearnedOptimizer) -> str:
    """`learned`; else `constant`, the name of a schedule, or `built in` for one of its own."""
    if not isinstance(optimizer, HandDesigned):
        return LEARNED
    schedule = optimizer.defaults.get("schedule", "built in")
    return schedule["name"] if isinstance(schedule, dict) else schedule


def short_name(name: str) -> str:
    """A name as it is; of a run the name of its folder, of another path its last part."""
    path = Path(name)
    if name in HAND_DESIGNED or name in io.packaged() or not path.exists():
        return name
    path = path.resolve()
    if path.is_dir():
        return path.name
    run = path.parent.parent
    of_run = path.parent.name == "weights" and (run / "config.yaml").is_file()
    return run.name if of_run and path.stem == "best" else path.stem


def chosen_entries(names: Sequence[str], baselines: Sequence[str] | None) -> list[Entry]:
    """The optimizers of a table: `names`, then the baselines that are not among them.

    names: packaged or hand-designed, weight files, runs. baselines: as standard_baselines takes
    them. Raises ValueError, of which WeightsError is one.
    """
    names = list(dict.fromkeys(names))
    labels = [short_name(name) for name in names]
    if len(set(labels)) < len(names):
        labels = names
    beside = standard_baselines(baselines)
    taken = {*HAND_DESIGNED, *(entry.name for entry in standard_baselines())}
    entries = [_entry(*pair, taken) for pair in zip(names, labels, strict=True)]
    return entries + [b for b in beside if b.name not in {entry.name for entry in entries}]


def _entry(name: str, label: str, taken: set[str]) -> Entry:
    if names_rule(name) and not Path(name).exists():
        rule = find_rule(name)
        return Entry(name, rule, setting(rule).theta)
    rule, theta, _ = io.read(io.locate(name, other_names=HAND_DESIGNED))
    return Entry(f"{label} (file)" if label in taken else label, rule, theta)
