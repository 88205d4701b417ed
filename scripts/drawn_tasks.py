"""Judges rules on tasks drawn for them: 24 against tuned Adam, or 500 for what diverges.

    python scripts/drawn_tasks.py relative_adam anchored_mlp --steps 250 --jobs 2
    python scripts/drawn_tasks.py relative_adam --diverged 500 --jobs 2

The 24 are four families of the training presets and 20 drawn from taskset, velo and lhopt with one
seed (docs/distributions.md). No rule is tuned on them but Adam, which gets the best of nine rates
on every task and is the yardstick. Reached, speedup and diverged are those of every evaluation
(docs/scores.md). Curves that are in the cache are not run again, so an interrupted command goes on.
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

import numpy as np

from learned_opt.registry import HAND_DESIGNED
from meta_train.cli import options
from meta_train.cli.arguments import names, positive
from meta_train.cli.startup import start_jax
from meta_train.evaluation.entries import Entry, chosen_entries, half_decades, setting
from meta_train.evaluation.evaluate import check, evaluate
from meta_train.evaluation.results import YARDSTICK, Report
from meta_train.host import Interrupted
from meta_train.reports.evaluation_text import speedups, table
from tasks.base import TaskFamily
from tasks.cost import Limit
from tasks.distributions.panel import panel
from tasks.families.cnn import CNNClassifier
from tasks.families.language import LanguageModel
from tasks.families.mlp import MLPClassifier
from tasks.families.synthetic import Quadratic

SEED = 20261129
LIMIT = Limit(parameters=20_000, operations=20_000_000)  # about 3 ms a step on one core
TRAINED = (
    Quadratic(dim=30, noise=1.0, name="quadratic_noisy"),
    MLPClassifier(widths=(24, 24), activation="tanh", image_size=4, name="digits_4x4_mlp"),
    CNNClassifier(),
    LanguageModel(),
)
TASKS = 24
DRAWS = 5  # tasks of one program among those that only count what diverges
RATES = half_decades(-4, 9)  # of the yardstick: 1e-4 to 1


def judging(count: int) -> tuple[TaskFamily, ...]:
    """The first `count` of the 24."""
    drawn = panel(SEED, max(0, count - len(TRAINED)), LIMIT, most=2)
    return (*TRAINED, *drawn)[:count]


def yardstick() -> Entry:
    adam = HAND_DESIGNED["adam"]
    trials = tuple({"learning_rate": rate} for rate in RATES)
    return Entry(YARDSTICK, adam, setting(adam).theta, trials)


def entries(args: argparse.Namespace) -> list[Entry]:
    chosen = chosen_entries(args.optimizers, args.baselines)
    return chosen if args.diverged else [*chosen, yardstick()]


def seeds(args: argparse.Namespace) -> int:
    """Every seed draws what a family's program leaves open: another task."""
    return DRAWS if args.diverged else args.seeds


def _one(args: argparse.Namespace, family: TaskFamily) -> str:
    """Puts the curves of one task into the cache; the name of the task."""
    start_jax()
    with options.session(args) as session:
        quiet = dataclasses.replace(session, say=lambda line: None)
        evaluate(entries(args), [family], seeds(args), args.steps, session=quiet)
    return family.name


def side_by_side(args: argparse.Namespace, families: Sequence[TaskFamily]) -> None:
    """Measures the tasks in `args.jobs` processes, which share the cache."""
    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
        waiting = [pool.submit(_one, args, family) for family in families]
        try:
            for count, done in enumerate(as_completed(waiting), 1):
                line = f"{done.result()}: {count}/{len(families)} tasks done"
                print(line, file=sys.stderr, flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def diverged_lines(report: Report, families: Sequence[TaskFamily]) -> Iterator[str]:
    """For each rule how many runs diverged, and on which tasks."""
    for o, name in enumerate(report.optimizers):
        bad = report.diverged[o]
        broken = ~np.isfinite(report.train_loss[o]).all(axis=-1)
        yield f"{name}: {bad.sum()} of {bad.size} runs diverged, {broken.sum()} of them not finite"
        for t, family in enumerate(families):
            if bad[t].any():
                where = ", ".join(str(report.seeds[s]) for s in np.flatnonzero(bad[t]))
                yield f"  seed {where} of {family}"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "optimizers", nargs="+", metavar="NAME|FILE|RUN", help="as for learned-opt evaluate"
    )
    parser.add_argument(
        "--baselines", type=names, default=[], metavar="A,B", help="further ones, tuned per task"
    )
    parser.add_argument("--steps", type=positive, default=1000, metavar="N", help="default: 1000")
    parser.add_argument("--seeds", type=positive, default=2, metavar="N", help="default: 2")
    parser.add_argument(
        "--tasks", type=positive, default=TASKS, metavar="N", help="the first N of the 24"
    )
    parser.add_argument(
        "--diverged",
        type=positive,
        metavar="N",
        help=f"count what diverges on N drawn tasks, {DRAWS} of each program, one run of each",
    )
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="processes")
    parser.add_argument(
        "--cache", metavar="DIR", help="of measured curves (default: the user's); none: none"
    )
    parser.add_argument("--out", metavar="DIR", help="for results.json and the curves")
    return parser


def main(given: Sequence[str] | None = None) -> int:
    parser = arguments()
    args = parser.parse_args(given)
    if args.tasks > TASKS:
        parser.error(f"--tasks: {args.tasks} is not allowed; there are {TASKS}")
    if args.jobs > 1 and args.cache == "none":
        parser.error("--jobs: processes hand their curves on in the cache; leave out --cache none")
    start_jax()
    try:
        chosen = entries(args)
        check(chosen, seeds(args), args.steps)
    except ValueError as error:
        parser.error(str(error))
    if args.diverged:
        programs = -(-args.diverged // DRAWS)
        families = panel(SEED, programs, LIMIT, most=max(2, programs // 5))
    else:
        families = judging(args.tasks)
    try:
        if args.jobs > 1:
            side_by_side(args, families)
        with options.session(args) as session:
            report = evaluate(chosen, families, seeds(args), args.steps, session=session)
    except (Interrupted, KeyboardInterrupt):
        return 130
    if args.diverged:
        print("\n".join(diverged_lines(report, families)))
    else:
        print(f"{table(report)}\n\n{speedups(report)}")
    if args.out:
        report.save(args.out)
        print(f"\nresults: {args.out}/results.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
