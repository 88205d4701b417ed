"""The commands of recorded hyperparameters: schedule record, show and export."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meta_train.cli.arguments import names, positive, usage
from meta_train.cli.startup import UsageError, start_jax

POINTS = 1000  # rows of an export, about
PER_PAUSE = 24  # updates, by default


def record(args: argparse.Namespace) -> int:
    start_jax()
    from learned_opt import io
    from learned_opt.controller.lhopt import LHOPT
    from learned_opt.controller.recording import write
    from meta_train.evaluation.entries import short_name
    from meta_train.learners.ppo import recording
    from meta_train.learners.ppo.environment import Environment
    from meta_train.reports import schedule as pages

    rule, theta, _ = io.read(io.locate(args.name))
    if not isinstance(rule, LHOPT):
        raise UsageError(f"{args.name}: {type(rule).__name__} is an update rule, not a controller")
    family = _family(args.task, args.overrides)
    pauses = args.pauses or rule.pauses
    steps = args.steps or PER_PAUSE * pauses
    if steps % pauses:
        raise UsageError(f"--steps: {steps} is not allowed; it must be a multiple of {pauses}")
    path = Path(args.out or f"{family.name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)  # before the runs, which would be lost
    environment = Environment(family.name, family, pauses, steps // pauses)
    found, losses = recording.record(rule, theta, environment, args.seeds, short_name(args.name))
    write(found, path)
    print(pages.text(found))
    end = sorted(losses[:, -1])[len(losses) // 2]
    print(f"\nmedian validation loss at the end: {end:.4g}\nrecording: {path}")
    return 0


def _family(kind: str, overrides: Sequence[str]) -> Any:
    """The task family of a kind, with fields as key=value. Raises UsageError and ConfigError."""
    from pydantic import ValidationError

    from learned_opt.naming import check_name
    from meta_train.config.errors import ConfigError, explain
    from meta_train.config.overrides import apply
    from meta_train.config.schema import describe
    from tasks.registry import FAMILIES

    with usage():
        check_name("task", kind, FAMILIES)
    data, origin = apply({"kind": kind}, overrides)
    model = describe(kind, FAMILIES[kind])
    try:
        # From JSON, as whole configs are: lists are read as the tuples that families have.
        block = model.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise ConfigError(kind, explain(error, data, model), origin) from None
    with usage():
        return block.build()


def show(args: argparse.Namespace) -> int:
    from learned_opt.controller.recording import read
    from meta_train.reports import schedule as pages
    from meta_train.reports.figures import MissingExtra

    with usage():
        recording = read(args.file)
    print(pages.text(recording))
    path = Path(args.out) if args.out else Path(args.file).with_suffix(".html")
    try:
        print(f"\npicture: {pages.write_html(recording, path)}")
    except MissingExtra as error:
        print(f"\nno picture: {error}")
    return 0


def export(args: argparse.Namespace) -> int:
    start_jax()
    import numpy as np

    from learned_opt.controller.recording import read
    from learned_opt.controller.schedule import planned

    with usage():
        recording = read(args.file)
        fixed = _numbers(args.overrides)
        found = planned(
            recording, args.steps, args.optimizer, args.mode, args.form, args.names, **fixed
        )
    every = args.every or max(1, args.steps // POINTS)
    counts = np.arange(0, args.steps, every, dtype=np.int32)
    rows = {name: [float(f"{x:.6g}") for x in at(counts)] for name, at in found.items()}
    about = {"optimizer": args.optimizer or recording.inner, "num_steps": args.steps}
    text = json.dumps(about | {"updates": counts.tolist(), "values": rows})
    if args.out is None:
        print(text)
        return 0
    Path(args.out).write_text(text + "\n", encoding="utf-8")
    print(f"{args.out}: {', '.join(rows)} at {len(counts)} points of {args.steps} updates")
    return 0


def _numbers(overrides: Sequence[str]) -> dict[str, float]:
    """Hyperparameters given as key=value."""
    found = {}
    for text in overrides:
        name, _, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise UsageError(f"{text}: must be key=number, as learning_rate=3e-4") from None
    return found


def add_to(add: Any, commands: Any) -> None:
    """Adds the commands; `add(name, handler, help, within)` makes one."""
    within = commands.add_parser("schedule", help="recorded hyperparameters")
    within = within.add_subparsers(metavar="VERB", required=True)

    command = add("record", record, "run a controller on a task, greedily", within=within)
    command.add_argument(
        "name", metavar="NAME|FILE|RUN", help="controller: packaged name or weight file"
    )
    command.add_argument("task", metavar="KIND", help="kind of a task, as in `list tasks`")
    command.add_argument(
        "overrides", metavar="key=value", nargs="*", help="fields of the task, as in a config"
    )
    command.add_argument(
        "--steps", type=positive, metavar="N", help=f"of a run (default: {PER_PAUSE} a pause)"
    )
    command.add_argument(
        "--pauses", type=positive, metavar="K", help="of a run (default: the controller's)"
    )
    command.add_argument(
        "--seeds", type=positive, default=16, metavar="S", help="runs (default: 16)"
    )
    command.add_argument("--out", metavar="FILE", help="file to write (default: TASK.json)")

    command = add("show", show, "print a recording and draw its trajectories", within=within)
    command.add_argument("file", metavar="FILE", help="recording, .json")
    command.add_argument("--out", metavar="PAGE", help="page to write (default: FILE with .html)")

    command = add("export", export, "write a recording as values of another run", within=within)
    command.add_argument("file", metavar="FILE", help="recording, .json")
    command.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        help="hyperparameters, such as learning_rate=3e-4",
    )
    command.add_argument("--steps", type=positive, required=True, metavar="N", help="of the run")
    command.add_argument("--optimizer", metavar="NAME", help="default: the recorded one")
    command.add_argument(
        "--mode",
        metavar="MODE",
        help="unit of the recorded rates: absolute (default), peak or relative",
    )
    command.add_argument(
        "--form", default="linear", metavar="FORM", help="linear (default) or constant"
    )
    command.add_argument("--names", type=names, metavar="A,B", help="what follows the recording")
    command.add_argument(
        "--every", type=positive, metavar="N", help="updates between values (default: ~1000 values)"
    )
    command.add_argument("--out", metavar="FILE", help="file to write (default: print)")
