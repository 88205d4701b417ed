"""Several processes as one run: the same numbers as one, and nothing lost when one goes away."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import yaml
from helpers.runs import COMMAND, TINY, free_port, metrics, status, wait_for_lines

from meta_train.cli.command import main, parse
from meta_train.run.processes import Agreement, Wish

ROOT = Path(__file__).parents[3]
ENDLESS = ["steps=60000", "meta_optimizer.schedule=constant"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "two.yaml"
    path.write_text(TINY.replace("num_tasks: 1", "num_tasks: 4\nparallel: {devices: 2}"))
    return path


def launch(*args: object) -> subprocess.Popen:
    return subprocess.Popen(
        list(map(str, args)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)},
    )


def launch_two(*args: object) -> list[subprocess.Popen]:
    told = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", 2, "--process-id"]
    return [launch(*COMMAND, "train", *args, *told, i) for i in range(2)]


ONE_BY_ONE = """
import json, sys
from meta_train.cli.command import main, parse
for args in json.loads(sys.argv[1]):
    if code := main(args):
        sys.exit(code)
"""


def train(*runs: list) -> None:
    """Runs in one process, one after the other."""
    told = json.dumps([["train", *map(str, args)] for args in runs])
    process = launch(sys.executable, "-c", ONE_BY_ONE, told)
    _, err = process.communicate(timeout=250)
    assert process.returncode == 0, err


def same_weights(a: Path, b: Path) -> None:
    one, two = (safetensors.numpy.load_file(run / "weights/last.safetensors") for run in (a, b))
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_two_processes_are_one_run_and_one_process_goes_on_with_it(config, tmp_path):
    run = tmp_path / "run"
    script = launch(ROOT / "scripts" / "two_processes.sh", config, *ENDLESS, "--out", run)
    wait_for_lines(run, 10, script)
    found = subprocess.run(
        ["pgrep", "-P", str(script.pid), "-f", "process-id 1"], capture_output=True, text=True
    )
    os.kill(int(found.stdout), signal.SIGTERM)  # one is told, both end
    out, err = script.communicate(timeout=60)
    assert script.returncode == 130, err
    step = status(run)["step"]
    assert status(run)["status"] == "interrupted" and out.count("interrupted at meta-step") == 1
    assert [line["step"] for line in metrics(run)] == list(range(1, step + 1))
    parts = sorted(path.name for path in (run / "checkpoints" / f"{step:08d}").iterdir())
    assert parts == ["manifest.json", "part-00000.safetensors", "part-00001.safetensors"]

    more = [config, f"steps={step + 5}", ENDLESS[1], "--out"]
    train([*more, run, "--resume"], [*more, tmp_path / "alone"])
    same_weights(run, tmp_path / "alone")
    assert [line["step"] for line in metrics(run)] == list(range(1, step + 6))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["pmap", "shard_map"])
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_process_is_killed_the_other_ends_and_both_resume(
    config, tmp_path, victim, backend
):
    run = tmp_path / "run"
    train_args = [config, ENDLESS[1], f"parallel.backend={backend}", "--out", run]
    processes = launch_two(*train_args, "steps=60000")
    wait_for_lines(run, 30, processes[0])
    processes[victim].kill()
    began = time.monotonic()
    _, err = processes[1 - victim].communicate(timeout=60)
    assert time.monotonic() - began < 60 and processes[1 - victim].returncode != 0
    assert "process of this run is gone" in err or "another task died" in err
    processes[victim].communicate()

    steps = metrics(run)[-1]["step"] + 50
    for process in launch_two(*train_args, f"steps={steps}", "--resume"):
        _, err = process.communicate(timeout=250)
        assert process.returncode == 0, err
    assert status(run)["status"] == "finished"
    train([config, f"steps={steps}", ENDLESS[1], "--out", tmp_path / "alone"])
    same_weights(run, tmp_path / "alone")


def test_flags_of_processes_go_together(config, capsys):
    for flags in (
        ["--coordinator", "localhost:1234"],
        ["--processes", "2", "--process-id", "0"],
        ["--coordinator", "localhost:1234", "--processes", "2", "--process-id", "2"],
    ):
        with pytest.raises(SystemExit) as caught:
            main(["train", str(config), *flags])
        assert caught.value.code == 2
    assert "--process-id: 2 must be below --processes, 2" in capsys.readouterr().err


def test_the_launchers_use_flags_that_there_are():
    job = list(yaml.safe_load_all((ROOT / "scripts" / "kubernetes.yaml").read_text()))[1]
    container = job["spec"]["template"]["spec"]["containers"][0]
    told = [*container["command"], *container["args"]]
    told = [word.replace("$(JOB_COMPLETION_INDEX)", "3") for word in told]
    args = parse(told[1:])
    assert told[0] == "learned-opt" and args.resume and args.distributed
    assert args.processes == job["spec"]["completions"] == 4 and args.process_id == 3
    script = (ROOT / "scripts" / "slurm.sh").read_text()
    args = parse(["train", "smoke", *re.search(r"train.py \"\$@\" (.*) \|\|", script)[1].split()])
    assert args.distributed and args.resume and args.coordinator is None


def test_without_a_cluster_the_message_says_what_to_give(config, tmp_path):
    process = launch(*COMMAND, "train", config, "--out", tmp_path / "run", "--distributed")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and "--coordinator HOST:PORT" in err
    assert "Traceback" not in err and not (tmp_path / "run").exists()


def test_processes_ask_each_other_about_once_a_second(monkeypatch):
    """Two agreements run in step; what each gathers is what both say."""
    clock = [0.0]
    agreements = [Agreement(lambda: clock[0]) for _ in range(2)]
    monkeypatch.setattr("jax.process_count", lambda: 2)
    asked, agreed = [], []
    for step in range(100, 1100):
        told = []
        wishes = [Wish(False, False), Wish(step >= 500, False)]

        def collect(values, told=told):
            told.append(values)
            return np.stack([values, values])

        patch = "meta_train.run.processes.multihost_utils.process_allgather"
        monkeypatch.setattr(patch, collect)
        for agreement, wish in zip(agreements, wishes, strict=True):
            agreement(step, wish)
        assert len(told) in (0, 2)  # both or none
        asked += [step] * bool(told)
        agreed += [step] * (bool(told) and bool(told[1][0]))
        clock[0] += 0.01
    assert asked[:2] == [100, 101] and 100 in np.diff(asked)
    assert len(asked) < 15 and 500 <= agreed[0] <= 600
