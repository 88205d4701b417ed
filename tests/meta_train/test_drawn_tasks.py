"""scripts/drawn_tasks.py, on the cheapest of its tasks."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.reports import make_report

from tasks.families.synthetic import Function2D, Quadratic

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "drawn_tasks.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("drawn_tasks", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_rule_is_judged_on_the_first_task_and_again_from_the_cache(script, tmp_path, capsys):
    args = ["sgd", "--tasks", "1", "--steps", "20", "--seeds", "1", "--cache", f"{tmp_path}/c"]
    assert script.main([*args, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["yardstick"] == "adam (tuned)" and found["optimizers"] == ["sgd", "adam (tuned)"]
    rates = [trial["learning_rate"] for trial in found["grids"]["adam (tuned)"]["trials"]]
    np.testing.assert_allclose(rates, 10.0 ** np.arange(-4, 0.25, 0.5), rtol=0.01)
    assert found["tasks"] == ["quadratic_noisy"] and found["eval_steps"][-1] == 20
    assert "speedup in steps" in told and "reached" in told
    assert script.main(args) == 0
    again = capsys.readouterr()
    assert "1 of 1 tasks are in the cache" in again.err
    assert again.out == told.partition("\n\nresults")[0] + "\n"


def test_runs_that_diverge_are_counted_and_named(script, monkeypatch, capsys):
    monkeypatch.setattr(script, "panel", lambda *args, **more: (Function2D("booth"),))
    assert script.main(["sgd", "--diverged", "5", "--steps", "4", "--cache", "none"]) == 0
    assert capsys.readouterr().out == "sgd: 0 of 5 runs diverged, 0 of them not finite\n"
    families = (Quadratic(dim=3), Quadratic(dim=4))
    lines = list(script.diverged_lines(make_report(), families))
    assert lines[0] == "rule <b>: 0 of 4 runs diverged, 0 of them not finite"
    assert lines[1] == "wild: 1 of 4 runs diverged, 1 of them not finite"
    assert lines[2] == f"  seed 1 of {families[0]}" and lines[3].startswith("adam (tuned): 0")


@pytest.mark.parametrize(
    "args, message",
    [
        (["sdg", "--tasks", "1"], "did you mean sgd"),
        (["sgd", "--tasks", "25"], "--tasks: 25 is not allowed; there are 24"),
        (["sgd", "--jobs", "2", "--cache", "none"], "--jobs:"),
    ],
)
def test_what_it_cannot_do_is_refused(script, args, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        script.main(args)
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_processes_share_the_work(tmp_path):
    args = ["sgd", "--tasks", "2", "--steps", "20", "--jobs", "2", "--cache", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, SCRIPT, *args],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "2/2 tasks done" in done.stderr and "2 of 2 tasks are in the cache" in done.stderr


@pytest.mark.slow
def test_the_24_are_many_kinds_within_the_limit(script):
    found = script.judging(24)
    drawn = found[4:]
    assert len({family.name for family in found}) == 24
    assert found[:6] == script.judging(6) and all(script.LIMIT.admits(family) for family in found)
    kinds = [type(family) for family in drawn]
    assert max(map(kinds.count, kinds)) == 2
