"""The command that sweeps one thing about a run: robustness."""

import argparse
from typing import Any

from meta_train.cli import options
from meta_train.cli.arguments import names, usage
from meta_train.cli.startup import start_jax

DEFAULT_STEPS = 1000
BESIDE = "relative_adam,adam"


def robustness(args: argparse.Namespace) -> int:
    start_jax()
    from learned_opt.naming import check_name
    from meta_train.cli.results_folder import results_folder
    from meta_train.evaluation import robustness as sweeps
    from meta_train.evaluation.entries import chosen_entries, short_name
    from meta_train.reports import robustness as pages
    from meta_train.reports.figures import MissingExtra

    with usage():
        check_name("--sweep", args.sweep, sweeps.SWEEPS)
        entries = chosen_entries([args.target, *args.optimizers], [])
        sweeps.check(args.sweep, entries, args.seeds, args.steps)
    name = f"{short_name(args.target)}-{args.sweep}"
    with results_folder(args.out, name) as out, options.session(args) as session:
        found = sweeps.run(args.sweep, entries, args.seeds, args.steps, session)
        found.save(out)
    print(f"{pages.text(found)}\n\n{pages.verdict(found)}")
    print(f"\nresults: {out / f'robustness_{args.sweep}.json'} and .parquet")
    try:
        print(f"page: {pages.write_html(found, out)}")
    except MissingExtra as error:
        print(f"no page: {error}")
    return 0


def add_to(add: Any) -> None:
    """Adds the command; `add(name, handler, help)` makes one."""
    command = add("robustness", robustness, "run optimizers while one thing about a run changes")
    command.add_argument("target", metavar="NAME|FILE|RUN", help="optimizer to evaluate")
    command.add_argument(
        "--sweep",
        required=True,
        metavar="SWEEP",
        help="learning_rate, horizon, width, depth, batch, gradient_scale, parameter_scale or "
        "bfloat16",
    )
    command.add_argument(
        "--optimizers",
        type=names,
        default=names(BESIDE),
        metavar="A,B",
        help=f"what to compare with, at their defaults; none: nothing (default: {BESIDE})",
    )
    options.add_runs(command, DEFAULT_STEPS, str(DEFAULT_STEPS))
    command.add_argument(
        "--out", metavar="DIR", help="results folder (default: results/NAME-SWEEP, -2, ...)"
    )
