"""Text as blocks of bytes: Python's own documentation, the generated corpus, any local file."""

import builtins
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tasks.base import MissingData
from tasks.builders import Arrays, Source
from tasks.info import BLOCK
from tasks.sources.corpus import generate

_DOCUMENTED = ("argparse", "collections", "decimal", "email", "inspect", "json", "logging", "os")
_ENOUGH_TEXT = 200_000  # bytes
_FEWEST_BLOCKS = 7  # with fewer, one of the four splits has none


def blocks(text: bytes) -> Arrays:
    """Whole blocks of text; the last, incomplete one is dropped."""
    count = len(text) // BLOCK
    return {"text": np.frombuffer(text, np.uint8, count * BLOCK).reshape(count, BLOCK)}


def read_file(path: Path) -> Arrays:
    """The blocks of a local file, enough of them for four splits; MissingData says why not."""
    try:
        if path.exists() and not path.is_file():
            raise MissingData(f"text file {path}: is not a file")
        text = path.read_bytes()
    except OSError as error:
        raise MissingData(f"text file {path}: {error.strerror or error}") from error
    least = _FEWEST_BLOCKS * BLOCK
    if len(text) < least:
        raise MissingData(
            f"text file {path}: {len(text):,} bytes are too few for four splits of blocks of "
            f"{BLOCK:,} bytes; it must have at least {least:,}"
        )
    return blocks(text)


def _documentation() -> Arrays:
    """The language reference that help() shows, then docstrings where that is short or absent."""
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        topics = {}
    text = "\n".join(topics[name] for name in sorted(topics))
    if len(text) < _ENOUGH_TEXT:
        text += "\n".join(_docstrings())
    found = blocks(text.encode())
    if len(found["text"]) < _FEWEST_BLOCKS:
        raise MissingData(
            "this Python came without its documentation: neither pydoc_data.topics nor docstrings; "
            "use a complete installation and no -OO"
        )
    return found


def _docstrings() -> Iterator[str]:
    for module in (builtins, *map(importlib.import_module, _DOCUMENTED)):
        for _, thing in sorted(inspect.getmembers(module), key=lambda member: member[0]):
            for inner in (thing, *(vars(thing).values() if inspect.isclass(thing) else ())):
                if isinstance(text := getattr(inner, "__doc__", None), str):
                    yield text


def _corpus() -> Arrays:
    return blocks(generate())


_FEATURES = (("text", ((BLOCK,), "uint8")),)
SOURCES = (
    Source(
        "corpus",
        "1.0.0",
        "English-like sentences from a small seeded grammar, as bytes.",
        _FEATURES,
        _corpus,
    ),
    Source(
        "documentation",
        ".".join(map(str, sys.version_info[:3])),  # every Python release has its own text
        "The language reference that comes with this Python, as bytes. For training only.",
        _FEATURES,
        _documentation,
    ),
)
