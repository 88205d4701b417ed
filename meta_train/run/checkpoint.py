"""Checkpoints of a run: the whole state with its digests, written beside the training.

A checkpoint is a folder named by its meta-step. Every process writes the arrays that it holds as
one safetensors file; manifest.json, with the SHA-256 of every file, comes last, and only then the
folder gets its name. So what has a name was complete, and any later change of it shows.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from learned_opt.files import write_whole
from learned_opt.io import named_leaves
from meta_train.parallel import is_spread, pieces

FORMAT = 1
STEP_DIGITS = 8  # in the names of the folders
MANIFEST = "manifest.json"
DTYPES = "dtypes"  # key in a file's header: the arrays whose type safetensors does not have
SECONDS_FOR_OTHERS = 120.0  # that processes may take longer than the first one to write their part

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class _Cut:
    """What this process holds of an array: rows, each with the number of the first."""

    rows: list[tuple[int, np.ndarray]]


class CheckpointError(ValueError):
    """A checkpoint does not fit this code; the message says how."""


class Damaged(CheckpointError):
    """A checkpoint is not what was written; the message names the file."""


class Unsaved(RuntimeError):
    """A checkpoint could not be written; those before it are as they were."""


class Checkpoints:
    """The checkpoints in one folder, of which the newest `keep` stay.

    part, parts: number of this process and of all that save together, into a folder they share. A
    process killed at any moment leaves the checkpoints that were complete; the first one removes
    what was being written when it opens the folder, before the others do.
    """

    def __init__(self, folder: Path, keep: int = 3, part: int = 0, parts: int = 1) -> None:
        self._folder, self._keep, self._part, self._parts = folder, keep, part, parts
        self._thread: Thread | None = None
        self._failure: Exception | None = None
        if part == 0:
            folder.mkdir(parents=True, exist_ok=True)
            for pattern in (".*.new", ".*.old"):
                for leftover in folder.glob(pattern):
                    shutil.rmtree(leftover, ignore_errors=True)

    def latest(self) -> int | None:
        """Meta-step of the newest checkpoint, None where there is none."""
        return max(saved_steps(self._folder), default=None)

    def save(self, step: int, state: Any, then: Callable[[], None] = lambda: None) -> None:
        """Takes a copy of `state`, a tree of arrays, and writes it in the background.

        A step that has a checkpoint keeps the one it has. then: called, in the background too, when
        the checkpoint is complete. Waits where the save before is still under way. Raises Unsaved
        where that one failed.
        """
        self.wait()
        new = step not in saved_steps(self._folder)
        copies = _host_copies(state) if new else None

        def work() -> None:
            try:
                if new:
                    self._write(step, copies)
                then()
            except Exception as error:  # raised again in the thread that asks for it
                self._failure = error

        self._thread = Thread(target=work, name="checkpoint")
        self._thread.start()

    def check(self) -> None:
        """Raises Unsaved, once, where a save that is over has failed."""
        failure, self._failure = self._failure, None
        if isinstance(failure, OSError):
            why = failure.strerror or str(failure)
            raise Unsaved(f"{self._folder}: cannot be saved to: {why}") from failure
        if failure is not None:
            raise failure

    def wait(self) -> None:
        """Returns when what was saved is on disk. Raises Unsaved where it is not."""
        self.close()
        self.check()

    def close(self) -> None:
        """Returns when nothing is being written any more."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def restore(self, step: int, template: Any) -> Any:
        """The state as `save` got it: host arrays (keys typed) in the tree of `template`.

        Rows that the template spreads over devices may be cut otherwise there than they were when
        saved. Raises Damaged, and CheckpointError naming every array that differs.
        """
        expected = named_leaves(template)
        found = read_arrays(self._folder, step)
        problems = [f"{name}: not in the checkpoint" for name in expected if name not in found]
        for name, array in found.items():
            if name not in expected:
                problems.append(f"{name}: not part of the state")
                continue
            want = _plain(expected[name])
            if is_spread(expected[name]) and _tasks(array.shape) == _tasks(want.shape):
                found[name] = array = array.reshape(want.shape)
            if (array.shape, array.dtype) != (want.shape, want.dtype):
                problems.append(
                    f"{name}: {array.dtype}{array.shape}, must be {want.dtype}{want.shape}"
                )
        if problems:
            raise CheckpointError(f"{self._folder}, step {step}: " + "; ".join(sorted(problems)))
        leaves = [_like(leaf, found[name]) for name, leaf in expected.items()]
        return jax.tree.unflatten(jax.tree.structure(template), leaves)

    def sound(self, say: Callable[[str], None]) -> int | None:
        """Meta-step of the newest checkpoint without damage, None where there are no checkpoints.

        Damaged ones are named through `say`; the first process puts them aside as STEP.damaged.
        Raises Damaged where no other is left.
        """
        damage = []
        for step in reversed(saved_steps(self._folder)):
            try:
                read_arrays(self._folder, step)
            except Damaged as error:
                damage.append((step, str(error)))
                continue
            for bad, message in damage:
                say(f"{message}; going on from the checkpoint of step {step}")
                if self._part == 0:
                    _put_aside(self._folder / _name(bad))
            return step
        if damage:
            raise Damaged("; ".join(message for _, message in damage) + "; no other is left")
        return None

    def _write(self, step: int, copies: Any) -> None:
        new = self._folder / f".{_name(step)}.new"
        try:
            new.mkdir(exist_ok=True)
            content = _encode(copies, everything=self._part == 0)
            digest = hashlib.sha256(content).hexdigest()
            write_whole(new / f"{_part(self._part)}.safetensors", content)
            if self._part > 0:
                write_whole(new / f"{_part(self._part)}.sha256", digest)
                return
            digests = {f"{_part(0)}.safetensors": digest}
            for part in range(1, self._parts):
                note = new / f"{_part(part)}.sha256"
                _wait_for(note)
                digests[f"{_part(part)}.safetensors"] = note.read_text()
                note.unlink()
            manifest = {"format": FORMAT, "step": step, "sha256": digests}
            write_whole(new / MANIFEST, json.dumps(manifest, indent=1) + "\n")
            new.rename(self._folder / _name(step))
            _sync(self._folder)
        except OSError:
            if self._part == 0:
                shutil.rmtree(new, ignore_errors=True)
            raise
        for old in saved_steps(self._folder)[: -self._keep]:
            aside = self._folder / f".{_name(old)}.old"
            (self._folder / _name(old)).rename(aside)
            shutil.rmtree(aside, ignore_errors=True)


def saved_steps(folder: Path) -> list[int]:
    """Meta-steps of the checkpoints in a folder, in order; nothing there changes."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def read_arrays(folder: Path, step: int) -> Arrays:
    """The arrays of one checkpoint by name, checked against their digests; nothing changes.

    Raises CheckpointError where there is none of that step, Damaged. May be called while another
    process writes there.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder")
    if step not in saved_steps(folder):
        there = ", ".join(map(str, saved_steps(folder))) or "none"
        raise CheckpointError(f"{folder}: no checkpoint of step {step} (there are: {there})")
    path = folder / _name(step)
    arrays: Arrays = {}
    rows: dict[str, list[tuple[int, np.ndarray]]] = {}
    for name, digest in _manifest(path, step).items():
        try:
            content = (path / name).read_bytes()
        except OSError as error:
            raise Damaged(f"{path} is damaged: {name}: {error.strerror}") from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise Damaged(f"{path} is damaged: {name} is not what was written (SHA-256)")
        for key, array in _decode(content).items():
            whole, at, start = key.rpartition("@")
            if at:
                rows.setdefault(whole, []).append((int(start), array))
            else:
                arrays[key] = array
    for name, parts in rows.items():
        arrays[name] = np.concatenate([array for _, array in sorted(parts, key=lambda p: p[0])])
    return arrays


def _manifest(path: Path, step: int) -> dict[str, str]:
    """The digests of a checkpoint's files. Raises Damaged."""
    try:
        content = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        version, its_step, digests = content["format"], content["step"], content["sha256"]
    except OSError as error:
        raise Damaged(f"{path} is damaged: {MANIFEST}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise Damaged(f"{path} is damaged: {MANIFEST} cannot be read") from None
    if version != FORMAT or its_step != step or not isinstance(digests, dict):
        raise Damaged(f"{path} is damaged: {MANIFEST} is not that of step {step}")
    return digests


def _encode(copies: Any, everything: bool) -> bytes:
    """One safetensors file; the rows of a cut array are under NAME@FIRST.

    everything: with the arrays that all processes hold alike.
    """
    arrays: Arrays = {}
    for name, copy in named_leaves(copies).items():
        if isinstance(copy, _Cut):
            arrays |= {f"{name}@{start}": rows for start, rows in copy.rows}
        elif everything:
            arrays[name] = copy
    foreign = {name: x.dtype.name for name, x in arrays.items() if x.dtype.kind == "V"}
    for name in foreign:  # bfloat16 and its like
        arrays[name] = arrays[name].view(f"u{arrays[name].dtype.itemsize}")
    return safetensors.numpy.save(arrays, metadata={DTYPES: json.dumps(foreign)})


def _decode(content: bytes) -> Arrays:
    arrays = safetensors.numpy.load(content)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    for name, dtype in json.loads(header["__metadata__"][DTYPES]).items():
        arrays[name] = arrays[name].view(jnp.dtype(dtype))
    return arrays


def _host_copies(state: Any) -> Any:
    """The tree with copies: the next meta-step may reuse the memory while these are written."""
    leaves = [_plain(leaf) for leaf in jax.tree.leaves(state)]
    cut = [isinstance(x, jax.Array) and not _is_whole_here(x) for x in leaves]
    whole = iter(jax.device_get([x for x, is_cut in zip(leaves, cut, strict=True) if not is_cut]))
    copies = [
        _Cut(pieces(x)) if is_cut else np.array(next(whole), order="C")
        for x, is_cut in zip(leaves, cut, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(state), copies)


def _is_whole_here(leaf: jax.Array) -> bool:
    return leaf.is_fully_addressable or leaf.is_fully_replicated


def _tasks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape with the axes shard and task as one."""
    return (shape[0] * shape[1], *shape[2:]) if len(shape) > 1 else shape


def _name(step: int) -> str:
    return f"{step:0{STEP_DIGITS}d}"


def _part(part: int) -> str:
    return f"part-{part:05d}"


def _put_aside(path: Path) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + SECONDS_FOR_OTHERS
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path.name} of another process is not there in time")
        time.sleep(0.01)


def _sync(folder: Path) -> None:
    """Makes a rename within the folder last through a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _like(leaf: Any, array: np.ndarray) -> Any:
    if _is_key(leaf):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
    return array
