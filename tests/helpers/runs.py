"""Runs small enough to be killed often, and what they leave behind."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import safetensors.numpy

TINY = """
steps: 60
num_tasks: 1
optimizer: {kind: hierarchical_rnn, preset: paper, level_sizes: [2], num_gradient_scales: 1}
tasks: [{kind: quadratic, dim: 2}]
horizon: {kind: fixed, steps: 4}
estimator: {kind: pes, length: 2}
meta_optimizer: {kind: adam, learning_rate: 1e-2, warmup_steps: 3}
log_every: 2
checkpoint: {every_steps: 7, every_seconds: null}
"""
COMMAND = [sys.executable, "-c", "import sys; from meta_train.cli import main; sys.exit(main())"]


def weights(run: Path, name: str = "last"):
    return safetensors.numpy.load_file(run / "weights" / f"{name}.safetensors")


def metrics(run: Path):
    """The lines of a run, less the times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]


def status(run: Path):
    return json.loads((run / "status.json").read_text())


def same_run(a: Path, b: Path) -> None:
    found, expected = weights(a), weights(b)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    assert metrics(a) == metrics(b)


def launch(*args: object) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_lines(run: Path, lines: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        path = run / "metrics.jsonl"
        if path.exists() and path.read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.005)
    raise AssertionError(f"exit code {process.poll()}: {process.communicate()}")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
