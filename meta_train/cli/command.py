"""The command `learned-opt`. JAX is imported by the commands that need it, never by --help."""

import argparse
import os
import re
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NoReturn

from meta_train.cli import bench, evaluate, import_weights, inspect, robustness, schedule, train
from meta_train.cli.exit_codes import BAD_USAGE, FAILED, INTERRUPTED, MISSING_DATA
from meta_train.cli.startup import UsageError
from meta_train.host import Interrupted


class Parser(argparse.ArgumentParser):
    """Names the nearest choice to a mistyped one."""

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '(.+?)' \(choose from (.+)\)", message)
        if wrong:
            from learned_opt.naming import nearest

            message += nearest(wrong[1], re.findall(r"[\w-]+", wrong[2]))
        super().error(message)


class Version(argparse.Action):
    """Reads the version of what is installed only where it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(version("learned-opt"))
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="learned-opt",
        description="Meta-train optimizers, look at them, measure them.",
        epilog="exit codes: 0 done, 1 failed, 2 bad usage or config, 3 missing data, "
        "130 interrupted, saved",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Any, help: str, within: Any = commands) -> argparse.ArgumentParser:
        command = within.add_parser(name, help=help, description=help, allow_abbrev=False)
        command.set_defaults(handler=run, command=command)
        return command

    train.add_to(add)
    evaluate.add_to(add)
    robustness.add_to(add)
    import_weights.add_to(add, commands)
    schedule.add_to(add, commands)
    inspect.add_to(add, commands)
    bench.add_to(add)
    return parser


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of a command; overrides after an option, which argparse leaves over, count."""
    parser = make_parser()
    args, rest = parser.parse_known_args(argv)
    if rest and hasattr(args, "overrides") and not any(text.startswith("-") for text in rest):
        args.overrides = [*args.overrides, *rest]
    elif rest:
        args.command.error(f"unrecognized arguments: {' '.join(rest)}")
    if args.handler is train.train:
        train.check_processes(args)
    return args


def _explain(error: Exception) -> tuple[int, str] | None:
    """Exit code and message for what the user can mend, None for what is a fault of the code."""
    from learned_opt.locate import WeightsError
    from meta_train.config.errors import ConfigError
    from meta_train.evaluation.results import ResultsError
    from meta_train.reports.figures import MissingExtra
    from meta_train.run.checkpoint import CheckpointError, Unsaved
    from meta_train.run.loop import NothingFinite
    from meta_train.run.processes import ClusterError, Lost
    from meta_train.run.run_folder import RunError
    from tasks.base import MissingData

    if isinstance(error, MissingData):
        return MISSING_DATA, str(error)
    if isinstance(error, (Unsaved, Lost)):
        return FAILED, f"{error}; the checkpoints there are as they were: go on with --resume"
    if isinstance(error, NothingFinite):
        return FAILED, str(error)
    mendable = (UsageError, ClusterError, ConfigError, RunError, WeightsError, CheckpointError)
    if isinstance(error, (*mendable, ResultsError, MissingExtra)):
        return BAD_USAGE, str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return BAD_USAGE, f"{where}{error.strerror}"
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code; users' mistakes end in a line, not a traceback."""
    args = parse(argv)
    try:
        return args.handler(args)
    except (KeyboardInterrupt, Interrupted):
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        explained = _explain(error)
        together = getattr(args, "distributed", False)
        if explained is None and not together:
            raise
        code, message = explained or (FAILED, traceback.format_exc())
        print(message, file=sys.stderr)
        if together:
            from meta_train.run import processes

            processes.leave(code)
        return code


def entry(argv: Sequence[str] | None = None) -> None:
    """The console script: leaves with the code of `main`."""
    code = main(argv)
    curriculum = sys.modules.get("meta_train.run.curriculum")
    if curriculum is not None and curriculum.compiling():
        # An interpreter that ends in order would abort in the middle of that thread.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
