"""Measured curves, kept in the user's cache folder: what was run once is not run again.

A file holds one setting of one optimizer on one task. Its name is a hash of everything that the
numbers depend on: the task as the fingerprint of suites describes it, the optimizer and its
weights, seeds, steps and points of measurement, versions, kind of device, and the code itself.
"""

import functools
import hashlib
import io
import json
import logging
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from learned_opt.files import write_whole
from learned_opt.hand.spec import HandDesigned
from learned_opt.hand.table import HAND_DESIGNED
from meta_train.evaluation.programs import Setting
from meta_train.host import cache_folder
from tasks.base import TaskFamily
from tasks.suites import describe

PACKAGES = ("learned-opt", "jax", "jaxlib", "optax", "numpy")
SOURCES = (
    "learned_opt",
    "tasks",
    "meta_train/evaluation/programs.py",
    "meta_train/inner/unroll.py",
)
NUMERICS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl")
log = logging.getLogger(__name__)


class Curves(NamedTuple):
    """One setting on one task."""

    train: np.ndarray  # [seed, point]
    test: np.ndarray  # [seed, point]
    lower_bound: np.ndarray  # [seed], NaN where the task declares none
    seconds: np.ndarray  # [], of a step of one run


@dataclass(frozen=True)
class CurveCache:
    """A folder of curves; several processes may use it at a time."""

    folder: Path

    def load(self, key: str, seeds: int, points: int) -> Curves | None:
        """The curves under `key`; None where there are none, or none that can be read.

        points: of measurement, the first included.
        """
        path = self._path(key)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as found:
                curves = Curves(*(found[name] for name in Curves._fields))
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever a damaged archive may raise
            log.warning("%s: damaged, so it is measured again (%s)", path, error)
            return None
        shapes = ((seeds, points), (seeds, points), (seeds,), ())
        if any(part.shape != shape for part, shape in zip(curves, shapes, strict=True)):
            log.warning("%s: damaged, so it is measured again (other shapes)", path)
            return None
        return curves

    def store(self, key: str, curves: Curves) -> None:
        """Keeps the curves; a folder that cannot be written to is warned of, not fatal."""
        content = io.BytesIO()
        np.savez(content, **curves._asdict())
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._path(key), content.getvalue())
        except OSError as error:
            log.warning("%s: the curves are not kept (%s)", self.folder, error.strerror)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"


def default_cache() -> CurveCache:
    """The user's: $XDG_CACHE_HOME/learned-opt/curves, else under ~/.cache."""
    return CurveCache(cache_folder() / "curves")


def cache_key(
    family: TaskFamily,
    suite_version: int,
    setting: Setting,
    seeds: Sequence[int],
    steps: int,
    points: int,
) -> str | None:
    """The name under which these curves are kept.

    None where an optimizer or a task is not of this package: its code could change unseen.
    """
    optimizer = _describe_optimizer(setting.optimizer)
    if optimizer is None or type(family).__module__.partition(".")[0] != "tasks":
        return None
    about = {
        "task": describe(family),
        "suite_version": suite_version,
        "optimizer": optimizer,
        "theta": digest((setting.theta, setting.learning_rate)),
        "seeds": list(seeds),
        "steps": steps,
        "points": points,
        "environment": _environment(),
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def digest(tree: Any) -> str:
    """A hash of a pytree of arrays: names, types, shapes and values."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape} ".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _describe_optimizer(optimizer: Any) -> Any:
    if isinstance(optimizer, HandDesigned):
        known = HAND_DESIGNED.get(optimizer.name)
        same = known is not None and known.make == optimizer.make
        return [optimizer.name, json.loads(optimizer.chosen)] if same else None
    if type(optimizer).__module__.partition(".")[0] != "learned_opt":
        return None
    return repr(optimizer)


def _environment() -> Mapping[str, Any]:
    device = jax.devices()[0]
    return {
        "code": _code(),
        "versions": package_versions(),
        "device": f"{device.platform} {device.device_kind}",
        "machine": f"{sys.platform} {platform.machine()} {os.cpu_count()}",
        "jax": {name: str(jax.config.values[name]) for name in NUMERICS},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def package_versions() -> dict[str, str]:
    """Of PACKAGES, as they are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@functools.cache
def _code() -> str:
    """A hash of the source files that decide what a run gives."""
    root = Path(__file__).parents[2]
    found = hashlib.sha256()
    for source in SOURCES:
        path = root / source
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            found.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return found.hexdigest()
