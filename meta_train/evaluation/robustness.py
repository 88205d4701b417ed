"""How optimizers hold up when one thing about a run changes: eight sweeps, and how they are run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from learned_opt.base import Horizon, LearnedOptimizer, Theta, reads_eval_value
from learned_opt.naming import check_name
from meta_train.evaluation import evaluate
from meta_train.evaluation.evaluate import DEFAULT_POINTS, Entry, Session
from meta_train.evaluation.robustness_results import OWN, Robustness
from tasks.augment.base import Augmentation, augment
from tasks.augment.objective import Bfloat16, LossScale, Reparametrise
from tasks.base import TaskFamily
from tasks.families.autoencoder import MLPAutoencoder
from tasks.families.language import LanguageModel
from tasks.families.mlp import MLPClassifier

HALF_DECADES = tuple(float(f"{10 ** (k / 2):.3g}") for k in range(-10, 3))
DECADES = tuple(10.0**k for k in range(-3, 4))


@dataclass(frozen=True)
class FixedHorizon:
    """A rule that plans for `horizon` steps, whatever the length of its runs."""

    optimizer: LearnedOptimizer
    horizon: int

    @property
    def reads_eval_value(self) -> bool:
        return reads_eval_value(self.optimizer)

    def init(self, key: PRNGKeyArray) -> Theta:
        return self.optimizer.init(key)

    def opt(
        self,
        theta: Theta,
        horizon: Horizon,
        key: PRNGKeyArray | None = None,
        learning_rate: float | Array | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        del horizon
        return self.optimizer.opt(theta, self.horizon, key, learning_rate)


def _same_entries(entries: Sequence[Entry], value: Any, steps: int) -> list[Entry]:
    del value, steps
    return list(entries)


def _at_rate(entries: Sequence[Entry], value: Any, steps: int) -> list[Entry]:
    del steps
    if value == OWN:
        return list(entries)
    return [
        e._replace(name=f"{e.name} at {point_name(value)}", trials=({"learning_rate": value},))
        for e in entries
    ]


def _also_misled(entries: Sequence[Entry], value: Any, steps: int) -> list[Entry]:
    del value
    misled = [
        e._replace(name=f"{e.name}, given {steps}", optimizer=FixedHorizon(e.optimizer, steps))
        for e in entries
    ]
    return [*entries, *misled]


def _multiple(steps: int, value: float) -> int:
    found = steps * value
    if found != int(found):
        raise ValueError(f"steps: {steps} is not allowed; {value:g} times it must be whole")
    return int(found)


def _under(augmentation: Callable[[Any], Augmentation]) -> Callable[[TaskFamily, Any], TaskFamily]:
    return lambda family, value: augment([family], [augmentation(value)], seed=0)[0]


_DIGITS = MLPClassifier(widths=(32, 32), name="digits_mlp")
_AUTOENCODER = MLPAutoencoder(widths=(32, 32), name="digits_autoencoder")
_TEXT = LanguageModel(dataset="corpus", name="corpus_rnn")


class Sweep(NamedTuple):
    """One thing about a run and the values it takes.

    about: what is changed, in a sentence. axis: its name in a figure. reference: the one of
    `values` that others are compared with. families: every task declares a lower bound. family,
    entries, steps: what a value makes of a task, of the optimizers and of the length of the runs;
    entries keep their order and come one for each line of the figure.
    """

    about: str
    axis: str
    values: tuple[Any, ...]
    reference: Any
    families: tuple[TaskFamily, ...] = (_DIGITS, _AUTOENCODER)
    family: Callable[[Any, Any], TaskFamily] = lambda family, value: family
    entries: Callable[[Sequence[Entry], Any, int], list[Entry]] = _same_entries
    steps: Callable[[int, Any], int] = lambda steps, value: steps


SWEEPS: dict[str, Sweep] = {
    "learning_rate": Sweep(
        "All start at the same learning rate; own is each optimizer's default. Rules that size "
        "their steps by the tensors read it as relative.",
        "initial learning rate",
        (OWN, *HALF_DECADES),
        OWN,
        entries=_at_rate,
    ),
    "horizon": Sweep(
        "Optimizers are given the length of the run; those of the lines with 'given' plan for the "
        "length of the reference, whatever is run.",
        "length of the run / reference",
        (0.5, 1.0, 4.0),
        1.0,
        entries=_also_misled,
        steps=_multiple,
    ),
    "width": Sweep(
        "All hidden layers get as many units.",
        "units in each hidden layer",
        (8, 16, 32, 64, 128, 256),
        32,
        family=lambda family, width: replace(family, widths=(width,) * len(family.widths)),
    ),
    "depth": Sweep(
        "The networks get as many hidden layers.",
        "hidden layers",
        (1, 2, 4, 8),
        2,
        family=lambda family, depth: replace(family, widths=family.widths[:1] * depth),
    ),
    "batch": Sweep(
        "Minibatches get as many examples; the number of steps stays.",
        "examples in a minibatch",
        (2, 8, 32, 128, 512),
        32,
        family=lambda family, size: replace(family, batch_size=size),
    ),
    "gradient_scale": Sweep(
        "The loss is that many times as large, and so is every gradient.",
        "factor on loss and gradient",
        DECADES,
        1.0,
        family=_under(lambda scale: LossScale(range=(scale, scale))),
    ),
    "parameter_scale": Sweep(
        "The same network, its parameters in other units: that many times as large at the start, "
        "for the same loss.",
        "factor on the parameters",
        DECADES,
        1.0,
        family=_under(lambda scale: Reparametrise(range=(1 / scale, 1 / scale))),
    ),
    "bfloat16": Sweep(
        "The loss is computed from parameters and batches rounded to bfloat16; parameters and the "
        "optimizer stay in float32.",
        "arithmetic of the loss",
        ("float32", "bfloat16"),
        "float32",
        families=(_DIGITS, _AUTOENCODER, _TEXT),
        family=lambda family, kind: (
            augment([family], [Bfloat16()], seed=0)[0] if kind == "bfloat16" else family
        ),
    ),
}


class Point(NamedTuple):
    """One value of a sweep, ready to be run."""

    name: str
    entries: tuple[Entry, ...]  # one for each line
    families: tuple[TaskFamily, ...]  # one for each task
    steps: int


def _points(sweep: Sweep, entries: Sequence[Entry], steps: int) -> list[Point]:
    return [
        Point(
            point_name(value),
            tuple(sweep.entries(entries, value, steps)),
            tuple(sweep.family(family, value) for family in sweep.families),
            sweep.steps(steps, value),
        )
        for value in sweep.values
    ]


def point_name(value: Any) -> str:
    if isinstance(value, str):
        return value
    return (
        f"{value:g}"
        if value >= 0.01
        else np.format_float_scientific(value, 2, trim="-", exp_digits=1)
    )


def check(name: str, entries: Sequence[Entry], seeds: int, steps: int) -> int:
    """Raises ValueError for what `run` refuses, at no cost; gives the measurements of each run."""
    check_name("sweep", name, SWEEPS)
    points = _points(SWEEPS[name], entries, steps)
    shortest = min(points, key=lambda point: point.steps)
    return evaluate.check(shortest.entries, seeds, shortest.steps, DEFAULT_POINTS)


def run(
    name: str,
    entries: Sequence[Entry],
    seeds: int,
    steps: int,
    session: Session | None = None,
) -> Robustness:
    """Runs every entry at every point of the sweep `name`, on all its tasks with all seeds.

    steps: updates of a run (in `horizon`, of the run at 1). session: as `evaluate` takes it. Raises
    ValueError.
    """
    session = session or Session()
    sweep, measurements = SWEEPS[name], check(name, entries, seeds, steps)
    points = _points(sweep, entries, steps)
    losses, bounds, eval_steps, about = {}, {}, {}, {}
    for length in dict.fromkeys(point.steps for point in points):
        together = {point.name: point for point in points if point.steps == length}
        chosen = {entry.name: entry for point in together.values() for entry in point.entries}
        families = tuple(dict.fromkeys(f for point in together.values() for f in point.families))
        session.say(f"{name}: {', '.join(together)}")
        found = evaluate.evaluate(
            list(chosen.values()), families, seeds, length, measurements, session
        )
        numbers = {entry: number for number, entry in enumerate(chosen)}
        for label, point in together.items():
            lines = [numbers[entry.name] for entry in point.entries]
            tasks = [families.index(family) for family in point.families]
            losses[label] = found.train_loss[np.ix_(lines, tasks)]
            bounds[label] = found.lower_bound[tasks]
            eval_steps[label], about = found.eval_steps, found.versions
    names = [point.name for point in points]
    reference = names.index(point_name(sweep.reference))
    return Robustness(
        sweep=name,
        about=sweep.about,
        axis=sweep.axis,
        points=tuple(names),
        reference=reference,
        optimizers=tuple(entry.name for entry in points[reference].entries),
        tasks=tuple(family.name for family in sweep.families),
        seeds=tuple(range(seeds)),
        eval_steps=np.stack([eval_steps[name] for name in names]),
        lower_bound=np.stack([bounds[name] for name in names]),
        train_loss=np.stack([losses[name] for name in names]),
        versions=about,
    )
