"""The commands that measure optimizers: evaluate, tune, report."""

import argparse
from pathlib import Path
from typing import Any

from meta_train.cli import options
from meta_train.cli.arguments import names, positive, usage
from meta_train.cli.startup import start_jax


def evaluate(args: argparse.Namespace) -> int:
    start_jax()
    from learned_opt.naming import check_name
    from meta_train.cli.results_folder import results_folder
    from meta_train.evaluation import evaluate as evaluation
    from meta_train.evaluation.entries import chosen_entries, short_name
    from meta_train.evaluation.results import find_yardstick
    from meta_train.reports import evaluation as reports
    from tasks.suites import SUITES

    with usage():
        check_name("--suite", args.suite, SUITES)
        steps = args.steps or SUITES[args.suite].steps
        entries = chosen_entries([args.target, *args.optimizers], args.baselines)
        evaluation.check(entries, args.seeds, steps)
        if args.yardstick:
            find_yardstick(args.yardstick, [entry.name for entry in entries])
    name = f"{short_name(args.target)}-{args.suite}"
    with results_folder(args.out, name) as out, options.session(args) as session:
        found = evaluation.evaluate(entries, args.suite, args.seeds, steps, session=session)
        found = found.against(args.yardstick) if args.yardstick else found
        found.save(out)
    print(reports.table(found))
    print(f"\nresults: {out / 'results.json'}, {out / 'results.parquet'}")
    try:
        print(f"report: {reports.write_html(found, out)}")
    except reports.MissingExtra as error:
        print(f"no report.html: {error}")
    return 0


def tune(args: argparse.Namespace) -> int:
    start_jax()
    from learned_opt.naming import check_name
    from meta_train.cli.results_folder import results_folder
    from meta_train.evaluation import evaluate as evaluation, tune as tuning
    from tasks.suites import SUITES

    with usage():
        check_name("--suite", args.suite, SUITES)
        steps = args.steps or SUITES[args.suite].steps
        entry = tuning.entry_of(args.optimizer, args.space, args.trials)
        evaluation.check([entry], args.seeds, steps)
    name = f"tune-{args.optimizer}-{args.space}-{args.suite}"
    with results_folder(args.out, name) as out, options.session(args) as session:
        found = tuning.tune(
            args.optimizer, args.suite, args.space, args.trials, args.seeds, steps, session
        )
        found.save(out)
    print(tuning.text(found))
    print(f"\nresults: {out / 'tune.json'}, {out / 'trials.parquet'}")
    return 0


def report(args: argparse.Namespace) -> int:
    start_jax()
    from meta_train.evaluation.results import Report
    from meta_train.reports import evaluation as reports, robustness as robustness_page
    from meta_train.reports.meta_training import write_training_html

    folder = Path(args.folders[0])
    seen = Report.load(args.seen) if args.seen else None
    if len(args.folders) > 1 or args.out or args.yardstick:
        return _compare(args, seen)
    if not (folder / "results.parquet").is_file():
        if (folder / "metrics.jsonl").is_file():
            print(f"report: {write_training_html(folder)}")
            return 0
        if pages := robustness_page.redraw(folder):
            print("\n".join(f"page: {path}" for path in pages))
            return 0
    found = Report.load(folder)
    print(reports.table(found))
    print(f"\nreport: {reports.write_html(found, folder, seen)}")
    return 0


def _compare(args: argparse.Namespace, seen: Any) -> int:
    from meta_train.cli.results_folder import results_folder
    from meta_train.evaluation.combine import combine
    from meta_train.reports import evaluation as reports

    found = combine(args.folders)
    if args.yardstick:
        with usage():
            found = found.against(args.yardstick)
    with results_folder(args.out, f"comparison-{found.suite}") as out:
        found.save(out)
        path = reports.write_html(found, out, seen)
    print(reports.table(found))
    print(f"\nresults: {out / 'results.json'}, {out / 'results.parquet'}\nreport: {path}")
    return 0


def add_to(add: Any) -> None:
    """Adds the commands; `add(name, handler, help)` makes one."""
    command = add("evaluate", evaluate, "run an optimizer and baselines over a suite of tasks")
    command.add_argument("target", metavar="NAME|FILE|RUN", help="optimizer to evaluate")
    command.add_argument("--suite", required=True, help="suite of tasks, as in `list suites`")
    command.add_argument(
        "--baselines",
        type=names,
        metavar="A,B",
        help="NAME, NAME+SCHEDULE, NAME_RATE (default: the standard ones); none: none",
    )
    command.add_argument(
        "--optimizers",
        type=names,
        default=[],
        metavar="A,B",
        help="further optimizers: names, files, runs",
    )
    _add_yardstick(command)
    options.add_runs(command, None, "the suite's")
    command.add_argument(
        "--out", metavar="DIR", help="results folder (default: results/NAME-SUITE, -2, ...)"
    )

    command = add("tune", tune, "search the hyperparameters of an optimizer over a suite of tasks")
    command.add_argument(
        "optimizer", metavar="NAME|NAME+SCHEDULE", help="hand-designed optimizer to tune"
    )
    command.add_argument("--suite", required=True, help="suite of tasks, as in `list suites`")
    command.add_argument(
        "--space",
        default="learning_rate",
        metavar="SPACE",
        help="learning_rate (default), all, adam1p, adam4p, adam6p, adam8p, nadamw or opt_list",
    )
    command.add_argument(
        "--trials",
        type=positive,
        metavar="N",
        help="settings to try (default: the whole grid, 32 draws, or 10 of the list)",
    )
    options.add_runs(command, None, "the suite's")
    command.add_argument(
        "--out", metavar="DIR", help="results folder (default: results/tune-NAME-SPACE-SUITE, ...)"
    )
    _add_report(add)


def _add_report(add: Any) -> None:
    command = add("report", report, "write the page of an evaluation, several, a run or sweeps")
    command.add_argument(
        "folders",
        nargs="+",
        metavar="DIR",
        help="folder of an evaluation or a run; several evaluations are compared",
    )
    command.add_argument(
        "--seen", metavar="DIR", help="results on tasks of meta-training, to draw beside the others"
    )
    _add_yardstick(command)
    command.add_argument(
        "--out",
        metavar="DIR",
        help="folder of a comparison (default: results/comparison-SUITE, -2, ...)",
    )


def _add_yardstick(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--yardstick",
        metavar="NAME",
        help="entry to score the others against, as adamw+warmup_cosine (default: tuned adam)",
    )
