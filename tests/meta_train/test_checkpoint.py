"""Checkpoints: what comes back is what went in, and a killed process spoils nothing."""

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

from meta_train.checkpoint import CheckpointError, Checkpoints, read_arrays


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


def test_a_damaged_checkpoint_is_an_error_that_names_it(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(3, make())
    checkpoints.wait()
    for path in (tmp_path / "c" / "00000003").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(CheckpointError, match="step 3"):
        checkpoints.restore(3, make())
    checkpoints.close()


def test_arrays_are_read_by_name_while_the_run_writes(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.save(3, {"theta": {"w": jnp.arange(3.0)}})
    checkpoints.wait()
    (tmp_path / "c" / "00000004.orbax-checkpoint-tmp").mkdir()
    np.testing.assert_array_equal(read_arrays(tmp_path / "c", 3)["theta/w"], [0.0, 1.0, 2.0])
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 7 \(there are: 3\)"):
        read_arrays(tmp_path / "c", 7)
    with pytest.raises(CheckpointError, match="no such folder"):
        read_arrays(tmp_path / "none", 3)
    assert (tmp_path / "c" / "00000004.orbax-checkpoint-tmp").exists()
    checkpoints.close()


SAVE_FOR_EVER = """
import sys, jax.numpy as jnp
from pathlib import Path
from meta_train.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]), keep=2)
for step in range(100_000):
    checkpoints.save(step, {"x": jnp.full(500_000, float(step)), "step": jnp.asarray(step)})
"""


@pytest.mark.parametrize(
    "rounds", [1, pytest.param(8, marks=pytest.mark.slow)], ids=["once", "often"]
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
        assert not list(folder.glob("*tmp*"))
        checkpoints.close()
