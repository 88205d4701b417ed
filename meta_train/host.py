"""What the machine around a run gives: its signals, a folder for caches."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """The user's cache of this package; XDG_CACHE_HOME moves it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "learned-opt"


class Interruption:
    """Becomes true at the first SIGINT or SIGTERM; the run then ends at its next step."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self) -> bool:
        return self._asked

    def ask(self, *_: Any) -> None:
        self._asked = True


class Interrupted(Exception):
    """Work was stopped from outside; what had been done by then is kept."""


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """While it lasts, SIGINT and SIGTERM only ask; nothing is saved from within a handler."""
    stopped = Interruption()
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in old:
        signal.signal(number, stopped.ask)
    try:
        yield stopped
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
