"""The files of a run's numbers, one JSON object per line: what writes them and what reads them."""

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from learned_opt.files import write_whole
from meta_train.evaluation.results import ResultsError

PARTS = ("gradient", "update", "params")


@runtime_checkable
class Sink(Protocol):
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the metrics of one meta-step."""
        ...

    def histograms(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Takes what learned_opt.records returns for one or more meta-updates."""
        ...

    def close(self, failed: bool = False) -> None: ...


class JsonLines:
    """One JSON object per line, "step" first; a number that is not finite becomes null.

    metrics, histograms: the files; the second is made when there are any.
    """

    def __init__(self, metrics: Path, histograms: Path) -> None:
        self._metrics = _Appended(metrics)
        self._path = histograms
        self._rows: _Appended | None = None

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        line = {"step": step} | {
            name: value if math.isfinite(value) else None for name, value in values.items()
        }
        self._metrics.write([line])

    def histograms(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = self._rows or _Appended(self._path)
        self._rows.write(rows)

    def close(self, failed: bool = False) -> None:
        try:
            self._metrics.close(failed)
        finally:
            if self._rows is not None:
                self._rows.close(failed)


class _Appended:
    """A file that lines of JSON are added to.

    Every line is handed to the system at once, so that a killed process loses none of them. What a
    full disk does not take waits for room, with one warning; `close` raises OSError where there is
    still none, unless the run has failed anyway.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._waiting = b""
        self._warned = False

    def write(self, lines: Sequence[Mapping[str, Any]]) -> None:
        self._waiting += b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        try:
            self._write()
        except OSError as error:
            if not self._warned:
                warn(f"{self._file.name}: {error.strerror}; the lines wait for room")
            self._warned = True

    def close(self, failed: bool) -> None:
        with self._file, suppress(*(OSError,) if failed else ()):
            self._write()
            os.fsync(self._file.fileno())

    def _write(self) -> None:
        while self._waiting:  # a disk that fills up takes a part
            self._waiting = self._waiting[self._file.write(self._waiting) :]


def keep_lines(path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Drops the lines of a JsonLines file that are torn or that `keep` refuses."""
    if not path.exists():
        return
    kept = [
        line
        for line, value in _objects(path)
        if line.endswith("\n") and "step" in value and keep(value)
    ]
    write_whole(path, "".join(kept))


def read_metrics(path: Path) -> dict[str, np.ndarray]:
    """The metrics by name: [(meta-step, value)], NaN for what was not finite; torn lines skipped.

    Raises ResultsError without the file or where it holds no metrics.
    """
    if not path.is_file():
        raise ResultsError(f"{path}: no such file; 'learned-opt train' writes it")
    found: dict[str, list[tuple[float, float]]] = {}
    for _, line in _objects(path):
        try:
            step = float(line.pop("step"))
        except (ValueError, KeyError, TypeError):
            continue
        for name, value in line.items():
            number = float(value) if isinstance(value, int | float) else np.nan
            found.setdefault(name, []).append((step, number))
    if not found:
        raise ResultsError(f"{path}: holds no metrics of a training run")
    return {name: np.asarray(pairs) for name, pairs in found.items()}


def read_histograms(path: Path) -> list[dict[str, Any]]:
    """The rows in a file of JSON lines, torn ones skipped; none without a file."""
    if not path.is_file():
        return []
    return [row for _, row in _objects(path) if row.keys() >= {"step", "leaf", *PARTS}]


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The lines of a file that are JSON objects, with what they hold; torn ones are left out."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield line, value


def warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)
