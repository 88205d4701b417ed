"""Where the numbers of a run go: files always, Weights & Biases when asked for."""

import json
import math
import os
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from learned_opt.files import write_whole
from learned_opt.monitoring.statistics import EDGES, LOWEST

PARTS = ("gradient", "update", "params")
NUMBERS = ("rms", "skewness", "kurtosis", "hill", "zeros", "not_finite")
SIGNED_DECADES = np.concatenate([LOWEST - EDGES[::-1], EDGES[1:] - LOWEST])
SECONDS_TO_FINISH = 60.0  # that the end of a run waits for a remote log


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
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if line.endswith("\n") and isinstance(value, dict) and "step" in value and keep(value):
            kept.append(line)
    write_whole(path, "".join(kept))


class Wandb:
    """A Weights & Biases run; a resumed job goes on with the run it began.

    mode: "offline" or "online". Raises what wandb raises when it cannot start: better at once than
    after hours.
    """

    def __init__(self, folder: Path, mode: Any, project: str, config: dict[str, Any]) -> None:
        import wandb

        if not os.environ.get("WANDB_MODE", "unset"):
            del os.environ["WANDB_MODE"]  # wandb refuses an empty one, even when given the mode
        self._histogram = wandb.Histogram
        id_file = folder / "wandb_id.txt"
        if not id_file.exists():
            write_whole(id_file, uuid.uuid4().hex[:12] + "\n")
        settings: dict[str, Any] = {"silent": True, "console": "off"}
        if "finish_timeout" in wandb.Settings.model_fields:  # newer than the oldest that we take
            settings["finish_timeout"] = SECONDS_TO_FINISH
        self._run = wandb.init(
            project=project,
            name=folder.name,
            id=id_file.read_text(encoding="utf-8").strip(),
            resume="allow" if mode == "online" else None,
            mode=mode,
            dir=str(folder),
            config=config,
            settings=wandb.Settings(**settings),
        )
        # wandb drops what comes with a lower step than the last; a resumed run may repeat some.
        self._run.define_metric("meta_step")
        self._run.define_metric("*", step_metric="meta_step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"meta_step": step, **values})

    def histograms(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """One histogram for each tensor and part: its entries by decades above 1e-12, signed."""
        found: dict[int, dict[str, Any]] = {}
        for row in rows:
            of_step, leaf = found.setdefault(row["step"], {}), row["leaf"]
            for part in PARTS:
                seen = row[part]
                counts = np.asarray([*reversed(seen["negative"]), *seen["positive"]])
                of_step[f"histograms/{part}/{leaf}"] = self._histogram(
                    np_histogram=(counts, SIGNED_DECADES)
                )
                of_step |= {f"statistics/{part}/{what}/{leaf}": seen[what] for what in NUMBERS}
            of_step |= {f"statistics/{what}/{leaf}": row[what] for what in ("cosine", "ratio")}
        for step, values in found.items():
            self._run.log({"meta_step": step, **values})

    def close(self, failed: bool = False) -> None:
        self._run.finish(exit_code=int(failed))


class Guarded:
    """A sink that cannot stop the run: its first failure turns it off with one warning."""

    def __init__(self, name: str, sink: Sink) -> None:
        self._name = name
        self._sink: Sink | None = sink

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._try(lambda sink: sink.scalars(step, values))

    def histograms(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._try(lambda sink: sink.histograms(rows))

    def close(self, failed: bool = False) -> None:
        self._try(lambda sink: sink.close(failed))

    def _try(self, call: Callable[[Sink], None]) -> None:
        if self._sink is None:
            return
        try:
            call(self._sink)
        except Exception as error:
            self._sink = None
            warn(f"{self._name} is off from here on: {error}")


def warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)
