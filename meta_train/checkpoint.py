"""Checkpoints of a run: the whole state, written beside the training, complete or not there."""

import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from learned_opt.io import named_leaves

STEP_DIGITS = 8  # in the names of the folders


class CheckpointError(ValueError):
    """A checkpoint does not fit this code or is damaged; the message says how."""


class Checkpoints:
    """The checkpoints in one folder, of which the newest `keep` stay.

    A process killed at any moment leaves the checkpoints that were complete; what was being written
    is removed the next time the folder is opened.
    """

    def __init__(self, folder: Path, keep: int = 3) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)  # orbax reports each of its phases
        self._folder = folder
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                create=True,
                cleanup_tmp_directories=True,
                step_format_fixed_length=STEP_DIGITS,
            ),
        )

    def latest(self) -> int | None:
        """Meta-step of the newest complete checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Takes a copy of `state`, a tree of arrays, and writes it in the background.

        A step that has a checkpoint keeps the one it has.
        """
        if step not in self._manager.all_steps():
            arrays = {name: _host_copy(leaf) for name, leaf in named_leaves(state).items()}
            self._manager.save(step, args=ocp.args.StandardSave(arrays), force=True)

    def restore(self, step: int, template: Any) -> Any:
        """The state as `save` got it: host arrays (keys typed) in the tree of `template`.

        Raises CheckpointError naming every array that differs from the template's.
        """
        expected = named_leaves(template)
        found = _read(self._manager, self._folder, step)
        problems = [f"{name}: not in the checkpoint" for name in expected if name not in found]
        for name, leaf in found.items():
            if name not in expected:
                problems.append(f"{name}: not part of the state")
                continue
            want = np.asarray(_plain(expected[name]))
            if (leaf.shape, leaf.dtype) != (want.shape, want.dtype):
                problems.append(
                    f"{name}: {leaf.dtype}{leaf.shape}, must be {want.dtype}{want.shape}"
                )
        if problems:
            raise CheckpointError(f"{self._folder}, step {step}: " + "; ".join(sorted(problems)))
        leaves = [_like(leaf, found[name]) for name, leaf in expected.items()]
        return jax.tree.unflatten(jax.tree.structure(template), leaves)

    def wait(self) -> None:
        """Returns when everything saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()


def saved_steps(folder: Path) -> list[int]:
    """Meta-steps of the complete checkpoints in a folder, in order; nothing there changes."""
    if not folder.is_dir():
        return []
    with _reader(folder) as manager:
        return sorted(manager.all_steps())


def read_arrays(folder: Path, step: int) -> dict[str, np.ndarray]:
    """The arrays of one checkpoint by name; nothing in the folder changes. Raises CheckpointError.

    May be called while another process writes there.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder")
    with _reader(folder) as manager:
        if step not in manager.all_steps():
            there = ", ".join(map(str, sorted(manager.all_steps()))) or "none"
            raise CheckpointError(f"{folder}: no checkpoint of step {step} (there are: {there})")
        return _read(manager, folder, step)


def _reader(folder: Path) -> ocp.CheckpointManager:
    logging.getLogger("absl").setLevel(logging.ERROR)
    options = ocp.CheckpointManagerOptions(read_only=True, step_format_fixed_length=STEP_DIGITS)
    return ocp.CheckpointManager(folder.absolute(), options=options)


def _read(manager: ocp.CheckpointManager, folder: Path, step: int) -> dict[str, np.ndarray]:
    try:
        found = manager.restore(step, args=ocp.args.StandardRestore())
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = str(error).splitlines()[0]
        raise CheckpointError(f"{folder}, step {step}: cannot be read: {message}") from error
    return {name: np.asarray(leaf) for name, leaf in found.items()}


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _host_copy(leaf: Any) -> np.ndarray:
    """A copy: the next meta-step may reuse the memory while this one is being written."""
    return np.array(jax.device_get(_plain(leaf)))


def _like(leaf: Any, array: np.ndarray) -> Any:
    if _is_key(leaf):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
    return array
