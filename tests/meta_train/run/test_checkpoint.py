"""Checkpoints: what comes back is what went in, and a killed process spoils nothing."""

import errno
import os
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

from meta_train.run.checkpoint import (
    CheckpointError,
    Checkpoints,
    Unsaved,
    read_arrays,
    saved_steps,
)


class State(NamedTuple):
    theta: dict
    optimizer: tuple
    key: jax.Array
    keys: jax.Array
    score: np.ndarray


def make(offset=0.0):
    theta = {"a": jnp.arange(6.0).reshape(2, 3) + offset, "b": {"w": jnp.ones(4, jnp.bfloat16)}}
    return State(
        theta,
        optax.adam(1e-3).init(theta),
        jax.random.key(3),
        jax.random.split(jax.random.key(1), 3),
        np.array(np.inf),
    )


def plain(leaf):
    leaf = jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(plain(x), plain(y))


def test_a_state_comes_back_with_its_types(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    for step in (0, 5, 12):
        checkpoints.save(step, make(step))
    checkpoints.wait()
    checkpoints.close()
    again = Checkpoints(tmp_path / "c", keep=2)
    assert again.latest() == 12
    restored = again.restore(12, make())
    same(restored, make(12))
    assert restored.theta["b"]["w"].dtype == ml_dtypes.bfloat16
    same(again.restore(5, make()), make(5))
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["00000005", "00000012"]
    again.close()


def test_an_empty_folder_has_none(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    assert checkpoints.latest() is None
    checkpoints.close()


def test_the_memory_of_a_saved_state_may_be_reused_at_once(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    change = jax.jit(lambda x: x + 1.0, donate_argnums=0)
    array, host = jnp.zeros(200_000), np.zeros(200_000)
    checkpoints.save(1, {"x": array, "y": host})
    host += 7.0
    for _ in range(20):
        array = change(array)
    jax.block_until_ready(array)
    checkpoints.wait()
    found = checkpoints.restore(1, {"x": array, "y": host})
    assert not found["x"].any() and not found["y"].any()
    checkpoints.close()


def test_every_difference_to_the_state_is_named(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(1, {"a": jnp.zeros((2, 3)), "b": jnp.zeros(2), "c": jnp.zeros(2)})
    checkpoints.wait()
    template = {"a": jnp.zeros((3, 2)), "b": jnp.zeros(2, jnp.int32), "d": jnp.zeros(1)}
    with pytest.raises(CheckpointError) as caught:
        checkpoints.restore(1, template)
    for words in (
        "step 1: ",
        "a: float32(2, 3), must be float32(3, 2)",
        "b: float32(2,), must be int32(2,)",
        "c: not part of the state",
        "d: not in the checkpoint",
    ):
        assert words in str(caught.value)
    checkpoints.close()


def flip(path, where):
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a byte of the arrays": lambda folder: flip(folder / "part-00000.safetensors", -1),
    "a byte of the header": lambda folder: flip(folder / "part-00000.safetensors", 9),
    "the arrays are gone": lambda folder: (folder / "part-00000.safetensors").unlink(),
    "the manifest is gone": lambda folder: (folder / "manifest.json").unlink(),
    "half a manifest": lambda folder: os.truncate(folder / "manifest.json", 30),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found_and_named_and_the_checkpoint_before_it_used(tmp_path, what):
    folder = tmp_path / "c"
    checkpoints = Checkpoints(folder)
    for step in (3, 5):
        checkpoints.save(step, make(step))
    checkpoints.wait()
    DAMAGE[what](folder / "00000005")
    file = "manifest.json" if "manifest" in what else "part-00000.safetensors"
    with pytest.raises(CheckpointError, match=f"00000005 is damaged: {file}"):
        checkpoints.restore(5, make())
    said = []
    assert checkpoints.sound(said.append) == 3
    assert (
        len(said) == 1 and file in said[0] and "going on from the checkpoint of step 3" in said[0]
    )
    same(checkpoints.restore(3, make()), make(3))
    checkpoints.save(5, make(5))  # the damaged one is out of the way
    checkpoints.wait()
    same(checkpoints.restore(5, make()), make(5))
    for step in (3, 5):
        DAMAGE[what](folder / f"{step:08d}")
    with pytest.raises(CheckpointError, match="00000005 is.*00000003 is.*no other is left"):
        checkpoints.sound(said.append)


def test_every_byte_of_a_manifest_counts(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, {"a": jnp.zeros(1)})
    checkpoints.wait()
    path = tmp_path / "00000003" / "manifest.json"
    content = path.read_bytes()
    for where in range(len(content)):
        if content[where : where + 1].isspace():
            continue
        flip(path, where)
        with pytest.raises(CheckpointError, match="is damaged"):
            read_arrays(tmp_path, 3)
        path.write_bytes(content)
    read_arrays(tmp_path, 3)


def test_a_save_that_fails_leaves_those_before_it_and_the_next_may_work(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"a": jnp.zeros(3)})
    checkpoints.wait()

    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("meta_train.run.checkpoint.write_whole", full)
        checkpoints.save(2, {"a": jnp.ones(3)})
        with pytest.raises(Unsaved, match="No space left on device"):
            checkpoints.wait()
    checkpoints.check()  # told once
    assert [path.name for path in tmp_path.iterdir()] == ["00000001"]
    checkpoints.save(3, {"a": jnp.ones(3)})
    checkpoints.wait()
    assert saved_steps(tmp_path) == [1, 3]


def test_saving_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "meta_train.run.checkpoint.write_whole",
        lambda path, content: time.sleep(0.5) or path.write_bytes(bytes(content, "utf-8")
        if isinstance(content, str) else content),
    )  # fmt: skip
    checkpoints = Checkpoints(tmp_path)
    state = {"a": jax.block_until_ready(jnp.zeros(100_000))}
    written = []
    began = time.perf_counter()
    checkpoints.save(1, state, lambda: written.append(saved_steps(tmp_path)))
    assert time.perf_counter() - began < 0.4 and not saved_steps(tmp_path)
    checkpoints.wait()
    assert written == [[1]]


def test_arrays_are_read_by_name_while_the_run_writes(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(3, {"theta": {"w": jnp.arange(3.0)}})
    checkpoints.wait()
    (tmp_path / "c" / ".00000004.new").mkdir()
    np.testing.assert_array_equal(read_arrays(tmp_path / "c", 3)["theta/w"], [0.0, 1.0, 2.0])
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 7 \(there are: 3\)"):
        read_arrays(tmp_path / "c", 7)
    with pytest.raises(CheckpointError, match="no such folder"):
        read_arrays(tmp_path / "none", 3)
    assert (tmp_path / "c" / ".00000004.new").exists()
    checkpoints.close()


SAVE_FOR_EVER = """
import sys, jax.numpy as jnp
from pathlib import Path
from meta_train.run.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]), keep=2)
for step in range(100_000):
    checkpoints.save(step, {"x": jnp.full(500_000, float(step)), "step": jnp.asarray(step)})
"""


@pytest.mark.parametrize(
    "rounds",
    [1, pytest.param(8, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])],
    ids=["once", "often"],
)
def test_a_process_killed_while_saving_leaves_a_whole_checkpoint(tmp_path, rounds):
    folder = tmp_path / "c"
    for turn in range(rounds):
        process = subprocess.Popen([sys.executable, "-c", SAVE_FOR_EVER, str(folder)])
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (folder / f"{5 * (turn + 1):08d}").exists():
            time.sleep(0.01 + 0.003 * turn)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        checkpoints = Checkpoints(folder, keep=2)
        step = checkpoints.latest()
        assert step is not None and step >= 5
        found = checkpoints.restore(step, {"x": jnp.zeros(500_000), "step": jnp.asarray(0)})
        assert (found["x"] == step).all() and found["step"] == step
        assert not list(folder.glob(".*"))
        checkpoints.close()
