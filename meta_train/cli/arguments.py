"""What several commands take as arguments, and how they refuse it."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from meta_train.cli.startup import UsageError


@contextmanager
def usage() -> Iterator[None]:
    """What is wrong with an argument is a ValueError in the library."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from None


def names(text: str) -> list[str]:
    return [] if text == "none" else [name.strip() for name in text.split(",") if name.strip()]


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; it must be an integer above 0")
    return int(text)


def step(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; it must be 0 or above")
    return int(text)
