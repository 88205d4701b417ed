"""The command, as users and supervisors meet it: real processes, real signals, real files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from meta_train.checkpoint import saved_steps
from meta_train.cli import main

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


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """A run of 60 meta-steps that nothing interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert main(["train", str(tiny), "--out", str(out)]) == 0
    return out


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


def test_a_run_folder_tells_all_about_the_run(whole):
    assert status(whole)["status"] == "finished" and status(whole)["step"] == 60
    assert [line["step"] for line in metrics(whole)] == list(range(1, 61))
    about = json.loads((whole / "environment.json").read_text())
    assert about["versions"]["jax"] and about["devices"]["count"] >= 1
    names = {path.name for path in whole.iterdir()} - {".lock"}
    assert names == {
        "config.yaml", "overrides.txt", "environment.json", "metrics.jsonl", "status.json",
        "checkpoints", "weights",
    }  # fmt: skip
    assert main(["config", "check", str(whole / "config.yaml")]) == 0


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
    assert "no other is left" in refused(capsys, "train", tiny, "--out", run, "--resume")
    assert metrics(run) == before


def test_resume_in_an_empty_or_missing_folder_starts(tiny, whole, tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new/deep"):
        assert main(["train", str(tiny), "--out", str(tmp_path / name), "--resume"]) == 0
        same_run(tmp_path / name, whole)


def test_a_finished_run_resumes_to_nothing_and_to_more_steps(tiny, whole, tmp_path, capsys):
    run = tmp_path / "run"
    flat = "meta_optimizer.schedule=constant"
    assert main(["train", str(tiny), "steps=10", flat, "--out", str(run)]) == 0
    before = metrics(run)
    assert main(["train", str(tiny), "steps=10", flat, "--out", str(run), "--resume"]) == 0
    assert metrics(run) == before
    assert main(["train", str(tiny), "steps=14", flat, "--out", str(run), "--resume"]) == 0
    assert [line["step"] for line in metrics(run)] == list(range(1, 15))
    assert main(["train", str(tiny), "steps=8", flat, "--out", str(run), "--resume"]) == 2
    assert "is at meta-step 14, beyond steps = 8" in capsys.readouterr().err
    assert "steps: 14" in (run / "config.yaml").read_text()


@pytest.fixture
def small_suite(monkeypatch):
    from tasks.families.synthetic import Quadratic
    from tasks.suites import SUITES, Suite

    monkeypatch.setitem(SUITES, "small", Suite((Quadratic(dim=2, name="bowl"),), steps=2))
    return "small"


def test_scores_of_another_evaluation_are_forgotten_for_good(
    tiny, tmp_path, small_suite, monkeypatch
):
    from meta_train.job import Loop

    run = tmp_path / "run"
    scored = f"evaluation={{every: 4, suite: {small_suite}, seeds: 1, steps: 2}}"
    train = ["train", str(tiny), "meta_optimizer.schedule=constant", scored, "--out", str(run)]
    assert main([*train, "steps=8"]) == 0
    assert sum("eval/score" in line for line in metrics(run)) == 2
    started = []

    def killed(self, state):
        started.append((int(state.learner.step), int(state.best.step), int(state.evaluated)))
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(Loop, "run", killed)
        for more in ([], ["evaluation.seeds=2"], ["evaluation.seeds=2"]):
            with pytest.raises(ZeroDivisionError):
                main([*train, "steps=10", *more, "--resume"])
    assert started[0][1] in (4, 8)  # the same evaluation: the best is still the best
    assert started[1:] == [(8, -1, -1), (8, -1, -1)]
    assert not any("eval/score" in line for line in metrics(run))
    for _ in range(2):  # the second has nothing to forget
        assert main([*train, "steps=10", "evaluation.seeds=2", "--resume"]) == 0
        assert [line["step"] for line in metrics(run) if "eval/score" in line] == [8, 10]


def test_a_run_goes_on_without_the_file_it_started_from(tiny, whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first.safetensors").write_bytes(
        (whole / "weights" / "last.safetensors").read_bytes()
    )
    flat = "meta_optimizer.schedule=constant"
    train = ["train", str(tiny), flat, "start_from=first.safetensors", "--out", "run"]
    assert main([*train, "steps=2"]) == 0
    assert f"start_from: {tmp_path}/first.safetensors" in Path("run/config.yaml").read_text()
    Path("first.safetensors").unlink()
    assert main([*train, "steps=4", "--resume"]) == 0
    assert status(tmp_path / "run")["step"] == 4


def refused(capsys, *args: object, code: int = 2) -> str:
    assert main([str(arg) for arg in args]) == code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err


def test_a_folder_that_cannot_be_used_is_left_alone(tiny, whole, tmp_path, capsys):
    before = sorted(path.name for path in whole.iterdir())
    assert "holds a run already" in refused(capsys, "train", tiny, "--out", whole)
    err = refused(capsys, "train", tiny, "--out", whole, "--resume", "seed=1", "tasks.0.dim=3")
    assert "these keys differ: seed, tasks.0.dim" in err
    assert sorted(path.name for path in whole.iterdir()) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    for more in ([], ["--resume"]):
        err = refused(capsys, "train", tiny, "--out", tmp_path / "other", *more)
        assert "neither empty nor a run folder" in err
    (tmp_path / "file").write_text("")
    assert "is a file" in refused(capsys, "train", tiny, "--out", tmp_path / "file")
    assert "cannot be created" in refused(capsys, "train", tiny, "--out", "/proc/x/run")


def test_a_run_folder_has_one_process_at_a_time(tiny, whole, capsys):
    from meta_train.run_folder import RunFolder

    other = RunFolder(whole)
    err = refused(capsys, "train", tiny, "--out", whole, "--resume")
    assert "another process is working" in err
    other.close()


def test_every_config_error_is_a_line_and_exit_code_2(tiny, tmp_path, capsys):
    err = refused(capsys, "train", tiny, "stpes=3", "ema=2", "--out", tmp_path / "run", "seed=-1")
    assert len(err.splitlines()) == 3 and "did you mean steps?" in err
    assert not (tmp_path / "run").exists()
    err = refused(capsys, "train", "quikstart")
    assert "no shipped config (those are: " in err
    err = refused(capsys, "train", tiny, "estimator.length=9", "--out", tmp_path / "run")
    assert "estimator.length: 9 must be between 1 and the shortest horizon, 4" in err
    err = refused(capsys, "train", tiny, "num_tasks=999", "parallel.devices=999")
    assert "parallel.devices" in err and "; set parallel.devices=" in err
    err = refused(capsys, "config", "check", tiny, "evaluation.suite=selection_smal")
    assert "evaluation.suite" in err and "did you mean selection?" in err
    err = refused(capsys, "config", "check", tiny, "start_from=hierarchical_rn")
    assert "start_from" in err and "no such file or name" in err
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in refused(capsys, "train", tmp_path / "binary.yaml")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["evaluate", "adam", "--suite", "heldout_smal"], "did you mean heldout_small?"),
        (["evaluate", "adm", "--suite", "heldout_small"], "did you mean adam?"),
        (["evaluate", "adam", "--suite", "heldout_small", "--baselines", "adma"], "adma"),
        (["evaluate", "adam", "--suite", "heldout_small", "--optimizers", "nix"], "nix"),
        (["evaluate", "adam", "--suite", "heldout_small", "--steps", "1009"], "take 1000"),
        (["evaluate", "adam", "--suite", "heldout_small", "--steps", str(10**10)], "steps: "),
        (["inspect", "nothing.safetensors"], "no such file"),
        (["export", "nowhere", "x.safetensors"], "no such file"),
        (["export", "nowhere", "x.bin"], "ends in .safetensors"),
        (["export", "nowhere", "x.safetensors", "--step", "3"], "nowhere"),
        (["report", "nowhere"], "no such file"),
        (["data", "prepare", "digts"], "did you mean digits?"),
        (["bench", "step", "smal_fc"], "did you mean small_fc?"),
        (["bench", "tasks", "--sweep"], "belong to bench meta"),
    ],
)
def test_bad_arguments_are_a_line_and_exit_code_2(args, words, capsys):
    err = refused(capsys, *args)
    assert words in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["trian"],
        ["train"],
        ["train", "smoke", "--outt", "x"],
        ["evaluate", "adam"],
        ["evaluate", "adam", "--suite", "heldout_small", "--seeds", "0"],
        ["evaluate", "adam", "--suite", "heldout_small", "--steps", "-5"],
        ["list", "everything"],
        ["inspect", "a", "b"],
    ],
)
def test_what_argparse_refuses_has_exit_code_2(args, capsys):
    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code == 2
    assert "usage: learned-opt" in capsys.readouterr().err


def test_missing_data_is_exit_code_3(tiny, tmp_path, capsys, monkeypatch):
    from tasks.base import MissingData
    from tasks.families.synthetic import Quadratic

    def load(self):
        raise MissingData("dataset 'x': not in /data; run: learned-opt data prepare x")

    monkeypatch.setattr(Quadratic, "load", load)
    err = refused(capsys, "train", tiny, "--out", tmp_path / "run", code=3)
    assert "data prepare" in err and not (tmp_path / "run").exists()


def test_a_fault_of_the_code_keeps_its_traceback(tiny, tmp_path, monkeypatch):
    def fault(*args, **kwargs):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("meta_train.job.Loop.run", fault)
    with pytest.raises(ZeroDivisionError):
        main(["train", str(tiny), "--out", str(tmp_path / "run")])
    assert status(tmp_path / "run")["status"] == "failed"
    assert "a bug" in status(tmp_path / "run")["reason"]


def test_help_does_not_start_jax():
    code = """
import sys
from meta_train.cli import main
for args in (["--help"], ["train", "--help"], ["evaluate", "--help"], ["config", "show", "-h"]):
    try:
        main(args)
    except SystemExit as stop:
        assert stop.code == 0
assert not {"jax", "numpy", "pydantic"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_export_and_inspect(whole, tmp_path, capsys):
    file = tmp_path / "w.safetensors"
    assert main(["export", str(whole), str(file)]) == 0
    np.testing.assert_array_equal(
        *[next(iter(w.values())) for w in (safetensors.numpy.load_file(file), weights(whole))]
    )
    assert main(["export", str(whole), str(file), "--step", "60"]) == 0
    found = safetensors.numpy.load_file(file)
    for name, expected in weights(whole).items():
        np.testing.assert_array_equal(found[name], expected)
    assert "there are: 49, 56, 60" in refused(capsys, "export", whole, file, "--step", "3")
    assert main(["inspect", str(file), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["card"]["meta_steps"] == 60 and about["card"]["config"]["steps"] == 60
    assert about["weights"] == sum(array.size for array in found.values())
    assert main(["inspect", str(file)]) == 0
    assert "kind: hierarchical_rnn" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["optimizers", "pretrained", "suites", "tasks"])
def test_lists_are_for_people_and_for_scripts(what, capsys):
    assert main(["list", what, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert main(["list", what]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [row["name"] for row in rows]


def test_config_show_prints_a_config_that_can_be_used(tiny, tmp_path, capsys):
    assert main(["config", "show", str(tiny), "tasks.0.dim=5"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "shown.yaml").write_text(text)
    assert main(["config", "show", str(tmp_path / "shown.yaml")]) == 0
    assert capsys.readouterr().out == text and "dim: 5" in text


def test_scripts_are_the_same_commands():
    root = Path(__file__).parents[2]
    for name in ("train", "evaluate"):
        done = subprocess.run(
            [sys.executable, root / "scripts" / f"{name}.py", "--help"],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0 and f"learned-opt {name}" in done.stdout


def test_compiled_programs_are_kept_in_the_users_cache_folder(tiny, tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_COMP", "JAX_PERS"))}
    env["XDG_CACHE_HOME"] = str(tmp_path)
    env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # however fast the machine is
    code = f"""
from meta_train.cli import main
main(["config", "check", {str(tiny)!r}, "num_tasks=2", "parallel.devices=2"])
import jax
jax.jit(lambda x: jax.numpy.linalg.svd(x @ x))(jax.numpy.ones((9, 9)))
print(jax.device_count())
"""
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.split()[-2:] == ["ok", "2"], done.stderr
    assert any((tmp_path / "learned-opt" / "jax").iterdir())


def test_evaluate_and_report(tmp_path, capsys, small_suite, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "results" / f"relative_adam-{small_suite}"
    chosen = ["--suite", small_suite, "--baselines", "none", "--optimizers", "adam"]
    sizes = ["--seeds", "1", "--steps", "2"]
    for number in ("", "-2", "-3"):
        assert main(["evaluate", "relative_adam", *chosen, *sizes]) == 0
        text = capsys.readouterr().out
        assert "bowl" in text and f"results/{out.name}{number}/results.json" in text
    assert main(["evaluate", "relative_adam", *chosen, *sizes, "--out", str(out)]) == 0
    assert len(list(out.parent.iterdir())) == 3
    capsys.readouterr()
    assert {path.name for path in out.iterdir()} >= {"results.json", "results.parquet"}
    assert main(["report", str(out)]) == 0
    assert "report.html" in capsys.readouterr().out
