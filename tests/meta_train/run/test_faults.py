"""Faults that a run survives: real processes, real signals, real files."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.runs import launch, metrics, same_run, status, wait_for_lines, weights

from meta_train.cli import main
from meta_train.run.checkpoint import Checkpoints, saved_steps

# Ends itself by SIGKILL at the Nth of all moments at which it has just touched a file of a save.
KILLED_IN_A_SAVE = """
import os, signal, sys
from pathlib import Path
from meta_train.run import checkpoint
from meta_train.cli import main

left = int(sys.argv.pop(1))
def touched():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

write_whole, rename = checkpoint.write_whole, Path.rename
def write(path, content):
    path.with_name("torn").write_bytes(b"half of it")
    touched()
    write_whole(path, content)
    path.with_name("torn").unlink()
    touched()
def renamed(self, target):
    touched()
    rename(self, target)
    touched()
checkpoint.write_whole, Path.rename = write, renamed
sys.exit(main())
"""


def kill(run, args, random, in_a_save):
    """Goes on with a run and kills it."""
    if in_a_save:
        moment = str(random.integers(1, 100))
        code = [sys.executable, "-c", KILLED_IN_A_SAVE, moment, *map(str, args)]
        process = subprocess.Popen(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    else:
        process = launch(*args)
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            if (run / "status.json").exists() and status(run)["pid"] == process.pid:
                break
            time.sleep(0.005)
        time.sleep(random.uniform(0.0, 3.0))
        process.kill()
    process.communicate(timeout=200)
    assert process.returncode in (0, -signal.SIGKILL)


@pytest.mark.parametrize(
    ("seed", "kills"),
    [(0, 2), *(pytest.param(seed, 10, marks=pytest.mark.slow) for seed in (1, 2))],
)
def test_a_run_killed_again_and_again_is_the_same_run(tiny, whole, tmp_path, seed, kills):
    random = np.random.default_rng(seed)
    run = tmp_path / "run"
    args = ["train", str(tiny), "--out", str(run), "--resume", "checkpoint.every_steps=1"]
    for turn in range(kills):
        kill(run, args, random, in_a_save=turn % 2 == 0)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 61, "meta/lo')  # as a kill in the midst of a write leaves it
    assert main(args) == 0
    same_run(run, whole)
    assert not list((run / "checkpoints").glob(".*"))


@pytest.mark.slow
def test_a_run_under_a_learned_meta_optimizer_goes_on_exactly_after_a_kill(tiny, tmp_path):
    learned = "meta_optimizer={kind: learned, name: hierarchical_rnn, clip: 0.1}"
    args = ["train", str(tiny), learned, "checkpoint.every_steps=1", "--out"]
    assert main([*args, str(tmp_path / "whole")]) == 0
    run = tmp_path / "run"
    kill(run, [*args, str(run), "--resume"], np.random.default_rng(3), in_a_save=True)
    assert 0 < max(saved_steps(run / "checkpoints")) < 60
    assert main([*args, str(run), "--resume"]) == 0
    same_run(run, tmp_path / "whole")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_ends_the_run_after_its_step_and_saves(tiny, whole, tmp_path, number):
    run = tmp_path / "run"
    process = launch("train", tiny, "steps=60000", "meta_optimizer.schedule=constant", "--out", run)
    wait_for_lines(run, 10, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
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


@pytest.fixture
def full_disk(monkeypatch):
    """As if the disk were full from the save of step 14 to that of step 28."""
    write, free = Checkpoints._write, resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(self, step, *more):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000 if 14 <= step < 28 else free[0], free[1]))
        try:
            write(self, step, *more)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, free)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "_write", limited)
        yield patched


@pytest.mark.parametrize("on_error", ["stop", pytest.param("continue", marks=pytest.mark.slow)])
def test_a_full_disk_stops_the_run_or_not_and_spoils_nothing(
    tiny, whole, tmp_path, on_error, full_disk, capsys
):
    run = tmp_path / "run"
    train = ["train", str(tiny), f"checkpoint.on_error={on_error}", "--out", str(run)]
    code, err = main(train), capsys.readouterr().err
    assert "checkpoints: cannot be saved to: File too large" in err and "Traceback" not in err
    if on_error == "continue":
        assert code == 0 and "; training goes on" in err
    else:
        assert code == 1 and "go on with --resume" in err
        assert saved_steps(run / "checkpoints") == [0, 7]
        full_disk.undo()
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


@pytest.mark.slow
def test_a_log_service_that_is_gone_is_one_warning(tiny, whole, tmp_path):
    run = tmp_path / "run"
    args = ["wandb.mode=offline", "steps=60000", "meta_optimizer.schedule=constant"]
    process = launch("train", tiny, *args, "--out", run)
    wait_for_lines(run, 10, process)
    found = subprocess.run(
        ["pgrep", "-f", f"wandb-core.*--pid {process.pid}\\b"], capture_output=True
    )
    for service in found.stdout.split():
        os.kill(int(service), signal.SIGKILL)
    wait_for_lines(run, metrics(run)[-1]["step"] + 50, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.count("warning:") == err.count("warning: wandb is off from here on") == 1, err
    assert found.stdout


@pytest.fixture
def poisoned(monkeypatch):
    """Families lose every finite loss after the meta-steps that are given by their names."""
    from meta_train.learners.gradient import GradientLearner
    from tasks.families.synthetic import Quadratic

    task, step, healthy = Quadratic.task, GradientLearner.step, {}

    def with_poison(self, cfg, data):
        made = task(self, cfg, ())
        return made._replace(loss=lambda *args: made.loss(*args) + data["poison"])

    def after_those(self, state, data):
        families = [estimator.episodes.family.name for estimator in self.estimators]
        data = tuple(
            {"poison": arrays["poison"] * (1.0 if int(state.step) < healthy[name] else np.nan)}
            for name, arrays in zip(families, data, strict=True)
        )
        return step(self, state, data)

    monkeypatch.setattr(Quadratic, "load", lambda self: {"poison": np.ones((), np.float32)})
    monkeypatch.setattr(Quadratic, "task", with_poison)
    monkeypatch.setattr(GradientLearner, "step", after_those)
    return healthy


def test_a_family_without_finite_losses_is_rejected_and_with_none_left_the_run_ends(
    tiny, tmp_path, poisoned, capsys
):
    two = "tasks=[{kind: quadratic, dim: 2, name: good}, {kind: quadratic, dim: 2, name: bad}]"
    args = ["train", str(tiny), two, "objective={kind: mean_loss}", "steps=25", "give_up_after=5"]
    poisoned |= {"bad": 10, "good": 15}
    run = tmp_path / "run"
    assert main([*args, "--out", str(run)]) == 1
    lines = metrics(run)
    assert [line["tasks/bad/rejected"] for line in lines] == [0.0] * 10 + [1.0] * 10
    assert [line["tasks/good/rejected"] for line in lines] == [0.0] * 15 + [1.0] * 5
    assert all(line["meta/update_norm"] > 0.0 for line in lines[:15])
    assert [line["meta/rejected"] for line in lines] == [0.0] * 15 + [1.0] * 5
    err = capsys.readouterr().err
    assert "meta-step 20: no finite meta-gradient in 5 steps in a row" in err
    assert status(run)["status"] == "failed"
    norms = [line["meta/theta_norm"] for line in lines]
    assert len(set(norms[15:])) == 1 and len(set(norms[:15])) == 15  # nothing moves any more


def test_weights_do_not_depend_on_logging_evaluation_and_checkpoints(
    tiny, whole, tmp_path, small_suite
):
    run = tmp_path / "run"
    scored = f"evaluation={{every: 25, suite: {small_suite}, seeds: 1, steps: 2}}"
    often = ["log_every=7", "checkpoint={every_steps: 3, every_seconds: 0.01, keep: 1}"]
    assert main(["train", str(tiny), scored, *often, "--out", str(run)]) == 0
    found, expected = weights(run), weights(whole)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
