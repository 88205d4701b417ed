"""What the commands that run optimizers share: how long, how often, and what surrounds the runs."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from meta_train.cli.arguments import positive


@contextmanager
def session(args: argparse.Namespace) -> Iterator[Any]:
    """What surrounds a measurement made by a command: its cache, its progress, its interruption."""
    from meta_train.evaluation.curve_cache import CurveCache, default_cache
    from meta_train.evaluation.measure import Session
    from meta_train.host import Interrupted, interruptible

    cache = default_cache() if args.cache is None else CurveCache(Path(args.cache))
    kept = args.cache != "none"
    say = lambda line: print(line, file=sys.stderr, flush=True)
    with interruptible() as stopped:
        try:
            yield Session(cache if kept else None, say=say, stopped=stopped)
        except Interrupted:
            say("interrupted; " + ("the same command goes on from there" if kept else "no cache"))
            raise


def add_runs(command: argparse.ArgumentParser, steps: int | None, meaning: str) -> None:
    """Adds --seeds, --steps and --cache. steps: the default, which `meaning` puts in words."""
    command.add_argument(
        "--seeds", type=positive, default=3, metavar="N", help="seeds of every task (default: 3)"
    )
    command.add_argument(
        "--steps",
        type=positive,
        default=steps,
        metavar="N",
        help=f"updates of every run (default: {meaning})",
    )
    command.add_argument(
        "--cache",
        metavar="DIR",
        help="cache of measured curves (default: the user's; none: no cache)",
    )
