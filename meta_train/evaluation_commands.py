"""The commands that measure optimizers: evaluate, report."""

import argparse
import sys
from pathlib import Path
from typing import Any

from meta_train.arguments import names, positive, usage
from meta_train.starting import start_jax


def evaluate(args: argparse.Namespace) -> int:
    start_jax()
    from learned_opt.naming import check_name
    from meta_train import evaluate as evaluation, report as reports
    from meta_train.chosen import chosen_entries, results_folder, short_name
    from tasks.suites import SUITES

    with usage():
        check_name("--suite", args.suite, SUITES)
        steps = args.steps or SUITES[args.suite].steps
        entries = chosen_entries([args.target, *args.optimizers], args.baselines)
        evaluation.check(entries, args.seeds, steps)
    say = lambda line: print(line, file=sys.stderr, flush=True)
    given = Path(args.out) if args.out else None
    with results_folder(given, f"{short_name(args.target)}-{args.suite}") as out:
        found = evaluation.evaluate(entries, args.suite, args.seeds, steps, progress=say)
        found.save(out)
    print(reports.table(found))
    print(f"\nresults: {out / 'results.json'}, {out / 'results.parquet'}")
    try:
        print(f"report: {reports.write_html(found, out)}")
    except reports.MissingExtra as error:
        print(f"no report.html: {error}")
    return 0


def report(args: argparse.Namespace) -> int:
    start_jax()
    from meta_train import report as reports
    from meta_train.results import Report
    from meta_train.training_report import write_training_html

    folder = Path(args.folders[0])
    if len(args.folders) > 1 or args.out:
        return _compare(args)
    if (folder / "metrics.jsonl").is_file() and not (folder / "results.parquet").is_file():
        print(f"report: {write_training_html(folder)}")
        return 0
    found = Report.load(folder)
    print(reports.table(found))
    print(f"\nreport: {reports.write_html(found, folder)}")
    return 0


def _compare(args: argparse.Namespace) -> int:
    from meta_train import report as reports
    from meta_train.chosen import results_folder
    from meta_train.comparison import combine

    found = combine(args.folders)
    given = Path(args.out) if args.out else None
    with results_folder(given, f"comparison-{found.suite}") as out:
        found.save(out)
        path = reports.write_html(found, out)
    print(reports.table(found))
    print(f"\nresults: {out / 'results.json'}, {out / 'results.parquet'}\nreport: {path}")
    return 0


def add_to(add: Any) -> None:
    """Adds the commands; `add(name, handler, help)` makes one."""
    command = add("evaluate", evaluate, "run an optimizer and baselines over a suite of tasks")
    command.add_argument("target", metavar="NAME|FILE|RUN", help="the optimizer to look at")
    command.add_argument("--suite", required=True, help="name of the suite")
    command.add_argument(
        "--baselines", type=names, metavar="A,B", help="default: all of them; none: none"
    )
    command.add_argument(
        "--optimizers", type=names, default=[], metavar="A,B", help="further names, files, runs"
    )
    command.add_argument("--seeds", type=positive, default=3, metavar="N", help="default: 3")
    command.add_argument("--steps", type=positive, metavar="N", help="default: the suite's")
    command.add_argument("--out", metavar="DIR", help="default: results/NAME-SUITE, -2, ...")

    command = add("report", report, "write report.html of an evaluation, several, or a run")
    command.add_argument(
        "folders", nargs="+", metavar="DIR", help="an evaluation or a run; several are compared"
    )
    command.add_argument(
        "--out", metavar="DIR", help="of a comparison; default: results/comparison-SUITE, -2, ..."
    )
