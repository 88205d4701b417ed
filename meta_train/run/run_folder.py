"""The folder of one run: who may use it, what it holds, how it is found again."""

import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from learned_opt.files import write_json, write_whole
from meta_train.config import loading
from meta_train.config.model import Config

PACKAGES = ("jax", "jaxlib", "optax", "numpy", "learned-opt")


class RunError(ValueError):
    """A folder cannot be used for this run; the message says why and what to do."""


class RunFolder:
    """A run folder that this process has for itself until `close` or its end.

    owner: False for the further processes of a run, which read here and leave what is written once
    to the first. Raises RunError where another run has the folder.
    """

    def __init__(self, path: Path, owner: bool = True) -> None:
        self.path = path
        self.owner = owner
        self._lock = _lock(path) if owner else None

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def histograms(self) -> Path:
        return self.path / "histograms.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def best_weights(self) -> Path:
        return self.path / "weights" / "best.safetensors"

    @property
    def last_weights(self) -> Path:
        return self.path / "weights" / "last.safetensors"

    @property
    def other_scores(self) -> int:
        """Scores in checkpoints up to this meta-step are of another evaluation; -1 for none.

        A file, not a part of the checkpoint: the step at hand has one already, which stays.
        """
        try:
            return int(json.loads(self._other_scores.read_text(encoding="utf-8"))["up_to_step"])
        except FileNotFoundError:
            return -1
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(f"{self._other_scores}: cannot be read: {error}") from None

    @other_scores.setter
    def other_scores(self, step: int) -> None:
        write_json(self._other_scores, {"up_to_step": step})

    @property
    def _other_scores(self) -> Path:
        return self.path / "other_scores.json"

    def write_status(self, status: str, step: int, steps: int, reason: str = "") -> None:
        """status: running, finished, interrupted or failed."""
        content = {"status": status, "step": step, "steps": steps, "pid": os.getpid()}
        write_json(self.path / "status.json", content | ({"reason": reason} if reason else {}))


def check(path: Path, config: Config, resume: bool) -> Config | None:
    """The config of the run that lies in `path`, None where a new run may begin.

    Raises RunError where neither may happen, before anything is touched.
    """
    if path.exists() and not path.is_dir():
        raise RunError(f"{path}: is a file; a run needs a folder")
    if not path.exists() or not any(path.iterdir()):
        return None
    if not (path / "config.yaml").is_file():
        raise RunError(f"{path}: is neither empty nor a run folder (it has no config.yaml)")
    if not resume:
        raise RunError(f"{path}: holds a run already; go on with --resume or choose another --out")
    old = loading.load(path / "config.yaml")
    differing = loading.differences(old, config)
    if differing:
        raise RunError(
            f"{path}: cannot resume with another config; these keys differ: "
            f"{', '.join(differing)} (only {', '.join(loading.CHANGEABLE)} may change)"
        )
    return old


def create(path: Path, config: Config, overrides: Sequence[str]) -> RunFolder:
    """A run folder that appears with all its first files or not at all. Raises RunError."""
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f".{path.name}.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        new = Path(tempfile.mkdtemp(prefix=f".{path.name}.new-", dir=path.parent))
        new.chmod(0o755)
        describe(new, config, overrides)
        (new / "weights").mkdir()
        new.rename(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be created: {error.strerror}") from None
    return RunFolder(path)


def describe(path: Path, config: Config, overrides: Sequence[str]) -> None:
    """Writes what a run is made from and what it runs on."""
    write_whole(path / "config.yaml", loading.dump(config))
    write_whole(path / "overrides.txt", "".join(f"{line}\n" for line in overrides))
    write_json(path / "environment.json", environment())


def _lock(path: Path) -> TextIO:
    file = (path / ".lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise RunError(f"{path}: another process is working in this run folder") from None
    return file


def environment() -> dict[str, Any]:
    """What a run depends on beside its config: versions, platform, devices, the code's commit."""
    import jax

    versions = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "versions": versions,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "devices": {"kind": devices[0].device_kind, "count": len(devices)},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "commit": commit(),
        "command": sys.argv,
    }


def commit() -> str | None:
    """The commit of the code, with "+" after it where files differ from it.

    None without git, and where the repository around the code is of something else: an installed
    package may lie inside a user's own.
    """
    here = Path(__file__)
    try:
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
        found = _git(here.parent, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+")
    except (OSError, subprocess.SubprocessError):
        return None
    return found or None


def _git(folder: Path, *args: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *args], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()
