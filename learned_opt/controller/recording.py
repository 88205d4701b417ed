"""What a controller did to the hyperparameters of some runs, as a file."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from learned_opt.naming import check_name, nearest

VERSION = 1
Runs = tuple[tuple[float, ...], ...]  # seed -> pause -> value in force until the next pause


@dataclass(frozen=True)
class Recording:
    """Hyperparameters over some runs of one task.

    inner: the optimizer that was driven. source: the task. num_steps: updates of a run. start: the
    values before the first pause. runs: of every hyperparameter. logit: those that were edited in
    logits; the others are edited by factors. Raises ValueError for what does not fit.
    """

    inner: str
    source: str
    num_steps: int
    start: Mapping[str, float]
    runs: Mapping[str, Runs]
    logit: tuple[str, ...] = ()
    controller: str = ""

    def __post_init__(self) -> None:
        if not _is_count(self.num_steps):
            raise ValueError(
                f"num_steps: {self.num_steps!r} is not allowed; it must be an integer, at least 1"
            )
        if not self.runs:
            raise ValueError("runs: there must be at least one hyperparameter")
        for name in self.logit:
            check_name("logit", name, self.runs)
        if {*self.start} != {*self.runs}:
            raise ValueError(
                f"start: {sorted(self.start)} is not allowed; it must name what is in runs, "
                f"{sorted(self.runs)}"
            )
        shapes = {tuple(len(run) for run in runs) for runs in self.runs.values()}
        if len(shapes) > 1 or len({*next(iter(shapes))}) != 1 or {0} == {*next(iter(shapes))}:
            raise ValueError(
                "runs: every hyperparameter must have as many runs, and pauses in each"
            )
        for name, runs in self.runs.items():
            most = 1.0 if name in self.logit else math.inf
            for value in (self.start[name], *(v for run in runs for v in run)):
                if not (_is_number(value) and 0 < value < most):
                    raise ValueError(
                        f"runs.{name}: {value!r} is not allowed; it must be a finite number above 0"
                        + (" and below 1" if most == 1.0 else "")
                    )

    @property
    def pauses(self) -> int:
        return len(next(iter(self.runs.values()))[0])

    @property
    def seeds(self) -> int:
        return len(next(iter(self.runs.values())))

    @property
    def values(self) -> dict[str, np.ndarray]:
        """One value per pause: the geometric mean over runs, of logits the arithmetic one."""
        return {
            name: self.from_line(name, self.on_line(name, runs).mean(0))
            for name, runs in self.runs.items()
        }

    def on_line(self, name: str, value: Any) -> np.ndarray:
        """Values in the space in which edits are sums: logarithms, or logits."""
        x = np.asarray(value, np.float64)
        return np.asarray(np.log(x) - np.log1p(-x) if name in self.logit else np.log(x))

    def from_line(self, name: str, x: np.ndarray) -> np.ndarray:
        """The inverse of `on_line`."""
        return np.asarray(1.0 / (1.0 + np.exp(-x)) if name in self.logit else np.exp(x))


def write(recording: Recording, path: str | Path) -> None:
    """Writes a recording as JSON."""
    text = json.dumps({"version": VERSION} | asdict(recording), indent=1)
    Path(path).write_text(text + "\n", encoding="utf-8")


def read(path: str | Path) -> Recording:
    """The recording in a file. Raises OSError, and ValueError that names file and field."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        return _recording(found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _recording(found: Any) -> Recording:
    if not isinstance(found, dict) or found.pop("version", None) != VERSION:
        raise ValueError(f"not a recording of version {VERSION}")
    known = [field.name for field in fields(Recording)]
    for name in found:
        if name not in known:
            raise ValueError(f"{name}: unknown field{nearest(name, known)}")
    for name in known[:5]:
        if name not in found:
            raise ValueError(f"{name}: missing")
    for name in ("start", "runs"):
        if not isinstance(found[name], dict):
            raise ValueError(f"{name}: must map hyperparameters to values")
    for name in ("inner", "source", "controller"):
        if not isinstance(found.get(name, ""), str):
            raise ValueError(f"{name}: {found[name]!r} is not allowed; it must be a text")
    logit = found.get("logit", [])
    if not (isinstance(logit, list) and all(isinstance(name, str) for name in logit)):
        raise ValueError(f"logit: {logit!r} is not allowed; it must be a list of names")
    for name, runs in found["runs"].items():
        if not (isinstance(runs, list) and all(isinstance(run, list) for run in runs)):
            raise ValueError(f"runs.{name}: must be a list of runs, each a list of values")
    runs = {name: tuple(map(tuple, runs)) for name, runs in found["runs"].items()}
    return Recording(**found | {"runs": runs, "logit": tuple(logit)})


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max
