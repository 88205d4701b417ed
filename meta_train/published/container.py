"""The file itself: what flax.serialization wrote, as arrays by the path to them."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import serialization

from learned_opt.foreign import HEAD, kind_of_file
from learned_opt.locate import WeightsError

LARGEST_FILE = 2**30  # bytes; the largest published one has 10 million
CHECKPOINT = {"params", "gen_id", "step"}  # of google/learned_optimization
OLD_CHECKPOINT = {"0", "1", "2"}  # of the same project, before it kept configs


class Published(NamedTuple):
    """leaves: arrays, or what else stands in their place, as "rnn_params/linear/w".

    checkpoint: a whole one of google/learned_optimization, which keeps a config beside it. old:
    written before it did. step: of meta-training, where the file says it.
    """

    path: Path
    leaves: dict[str, Any]
    checkpoint: bool
    old: bool
    step: int | None
    sha256: str


def read(path: Path) -> Published:
    """Reads a file without executing anything in it. Raises WeightsError."""
    content = _content(path)
    try:
        tree = serialization.msgpack_restore(content)
    except Exception as error:  # what foreign bytes do to a decoder has no list
        reason = _printable(str(error) or type(error).__name__)
        raise WeightsError(
            f"{path}: cut off, damaged or not a file of flax.serialization: {reason}"
        ) from None
    step, names = None, set(tree) if isinstance(tree, dict) else set()
    if names == CHECKPOINT:
        step, tree = tree["step"], tree["params"]
    elif names == OLD_CHECKPOINT:
        tree = tree["0"]
    if not isinstance(tree, dict):
        raise WeightsError(f"{path}: holds {type(tree).__name__}, not a tree of arrays")
    return Published(
        path,
        _flat(path, tree),
        names == CHECKPOINT,
        names == OLD_CHECKPOINT,
        _whole_number(step),
        hashlib.sha256(content).hexdigest(),
    )


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise WeightsError(f"{path}: {size} bytes, more than any published weights have")
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from None
    if not content:
        raise WeightsError(f"{path}: the file is empty")
    if what := kind_of_file(content[:HEAD]):
        raise WeightsError(f"{path}: this is {what}, not a file of flax.serialization")
    return content


def _whole_number(step: Any) -> int | None:
    """An integer, Python's or an array's; None for all else."""
    whole = isinstance(step, int | np.integer | np.ndarray) and np.ndim(step) == 0
    return int(step) if whole and np.issubdtype(np.asarray(step).dtype, np.integer) else None


def _flat(path: Path, tree: Any) -> dict[str, Any]:
    """The leaves below; two with the same path are refused."""
    leaves: dict[str, Any] = {}
    waiting = [("", tree)]
    while waiting:
        prefix, node = waiting.pop()
        if isinstance(node, dict):
            for key in node:
                name = _printable(str(key))
                waiting.append((f"{prefix}/{name}" if prefix else name, node[key]))
        elif prefix in leaves:
            raise WeightsError(f"{path}: two leaves are called {prefix}")
        else:
            leaves[prefix] = node
    return leaves


def _printable(text: str) -> str:
    """Foreign text as a terminal may show it, with escapes for what would steer it."""
    return text if text.isprintable() else ascii(text)
