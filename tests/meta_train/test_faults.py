"""Faults that a run survives: real processes, real signals, real files."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from runs import launch, metrics, same_run, status, wait_for_lines

from meta_train.checkpoint import saved_steps
from meta_train.cli import main


def test_a_killed_run_resumes_to_the_same_weights(tiny, whole, tmp_path):
    run = tmp_path / "run"
    process = launch("train", tiny, "--out", run)
    wait_for_lines(run, 20, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert status(run)["status"] == "running"
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 61, "meta/lo')  # as a kill in the midst of a write leaves it
    (run / "checkpoints" / ".00000059.new").mkdir(exist_ok=True)
    assert main(["train", str(tiny), "--out", str(run), "--resume"]) == 0
    same_run(run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_again_and_again_at_any_moment(tiny, whole, tmp_path, seed):
    random = np.random.default_rng(seed)
    run = tmp_path / "run"
    for _ in range(6):
        process = launch("train", tiny, "--out", run, "--resume", "checkpoint.every_steps=1")
        if random.random() < 0.5:
            time.sleep(random.uniform(0.0, 15.0))
        else:
            until = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < until:
                if (
                    run.exists()
                    and (run / "status.json").exists()
                    and status(run)["pid"] == process.pid
                ):
                    break
                time.sleep(0.01)
            time.sleep(random.uniform(0.0, 1.0))
        process.kill()
        process.communicate()
    process = launch("train", tiny, "--out", run, "--resume", "checkpoint.every_steps=1")
    assert process.communicate(timeout=200) and process.returncode == 0
    same_run(run, whole)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_ends_the_run_after_its_step_and_saves(tiny, whole, tmp_path, number):
    run = tmp_path / "run"
    process = launch("train", tiny, "steps=60000", "meta_optimizer.schedule=constant", "--out", run)
    wait_for_lines(run, 10, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert status(run)["status"] == "interrupted"
    step = status(run)["step"]
    assert f"interrupted at meta-step {step}, saved" in out and "--resume" in out
    assert [line["step"] for line in metrics(run)] == list(range(1, step + 1))
    assert "\r" not in out and "\x1b" not in out and "Traceback" not in err

    more = ["meta_optimizer.schedule=constant", f"steps={step + 5}"]
    assert main(["train", str(tiny), *more, "--out", str(run), "--resume"]) == 0
    reference = tmp_path / "reference"
    assert main(["train", str(tiny), *more, "--out", str(reference)]) == 0
    same_run(run, reference)


# Stands for a disk that is full from the save of step 14 to that of step 28.
FULL_DISK = """
import resource, sys
from meta_train.checkpoint import Checkpoints
from meta_train.cli import main

write = Checkpoints._write
def limited(self, step, *more):
    soft = 1000 if 14 <= step < 28 else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))
    write(self, step, *more)
Checkpoints._write = limited
sys.exit(main())
"""


@pytest.mark.parametrize("on_error", ["stop", "continue"])
def test_a_full_disk_stops_the_run_or_not_and_spoils_nothing(tiny, whole, tmp_path, on_error):
    run = tmp_path / "run"
    train = ["train", str(tiny), f"checkpoint.on_error={on_error}", "--out", str(run)]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *train], capture_output=True, text=True, timeout=200
    )
    assert "Traceback" not in done.stderr
    assert "checkpoints: cannot be saved to: File too large" in done.stderr
    if on_error == "continue":
        assert done.returncode == 0, done.stderr
        assert "; training goes on" in done.stderr
    else:
        assert done.returncode == 1 and "go on with --resume" in done.stderr
        assert saved_steps(run / "checkpoints") == [0, 7]
        assert main([*train, "--resume"]) == 0
    same_run(run, whole)


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(tiny, whole, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    file = run / "checkpoints" / "00000060" / "part-00000.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    assert main(["train", str(tiny), "--out", str(run), "--resume"]) == 0
    err = capsys.readouterr().err
    assert f"{file.parent} is damaged: {file.name}" in err and "checkpoint of step 56" in err
    same_run(run, whole)
    shutil.rmtree(run / "checkpoints" / "00000056")
    for step in (49, 60):
        (run / "checkpoints" / f"{step:08d}" / "manifest.json").unlink()
    before = metrics(run)
    assert main(["train", str(tiny), "--out", str(run), "--resume"]) == 2
    assert "no other is left" in capsys.readouterr().err
    assert metrics(run) == before
