"""The command, as users and supervisors meet it: real processes, real signals, real files."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from helpers.runs import metrics, same_run, status, weights

from meta_train.cli import main


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


@pytest.mark.slow
def test_scores_of_another_evaluation_are_forgotten_for_good(
    tiny, tmp_path, small_suite, monkeypatch
):
    from meta_train.run.job import Loop

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


@pytest.mark.slow
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
    from meta_train.run.run_folder import RunFolder

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
        (["evaluate", "adam", "--suite", "heldout_small", "--yardstick", "adm"], "mean adam?"),
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

    monkeypatch.setattr("meta_train.run.job.Loop.run", fault)
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
    root = Path(__file__).parents[3]
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
    for number in ("", "-2"):
        assert main(["evaluate", "relative_adam", *chosen, *sizes]) == 0
        text = capsys.readouterr().out
        assert "bowl" in text and f"results/{out.name}{number}/results.json" in text
    assert main(["evaluate", "relative_adam", *chosen, *sizes, "--out", str(out)]) == 0
    assert len(list(out.parent.iterdir())) == 2
    capsys.readouterr()
    assert {path.name for path in out.iterdir()} >= {"results.json", "results.parquet"}
    assert main(["report", str(out)]) == 0
    assert "report.html" in capsys.readouterr().out
    assert main(["report", str(out), "--yardstick", "relative_adam"]) == 0
    text = capsys.readouterr().out
    assert "against relative_adam" in text and f"results/comparison-{small_suite}" in text


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["evalute", "x"], "evaluate"),
        (["list", "optimzers"], "optimizers"),
        (["config", "chek"], "check"),
    ],
)
def test_a_mistyped_command_is_answered_with_the_nearest(given, meant, capsys):
    with pytest.raises(SystemExit) as left:
        main(given)
    assert left.value.code == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


def test_the_package_runs_as_the_command_and_starts_no_jax_for_its_version():
    code = (
        "import runpy, sys\n"
        "sys.argv = ['learned-opt', '--version']\n"
        "try: runpy.run_module('meta_train', run_name='__main__')\n"
        "except SystemExit: print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [metadata.version("learned-opt"), "False"]
