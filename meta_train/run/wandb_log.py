"""The numbers of a run at Weights & Biases, where they are asked for."""

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from learned_opt.files import write_whole
from learned_opt.monitoring.statistics import EDGES, LOWEST
from meta_train.run.metrics_log import PARTS, Sink, warn

NUMBERS = ("rms", "skewness", "kurtosis", "hill", "zeros", "not_finite")
SIGNED_DECADES = np.concatenate([LOWEST - EDGES[::-1], EDGES[1:] - LOWEST])
SECONDS_TO_FINISH = 60.0  # that the end of a run waits for a remote log


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
