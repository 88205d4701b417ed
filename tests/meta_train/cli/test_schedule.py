"""The commands of recorded hyperparameters, as users type them."""

import json

import numpy as np
import pytest

from learned_opt.controller.recording import Recording, write
from meta_train.cli import main
from meta_train.reports.schedule import html, text

RECORDING = Recording(
    inner="ciao",
    source="digits",
    num_steps=40,
    start={"learning_rate": 1e-3, "clip_ratio": 0.8},
    runs={
        "learning_rate": ((1e-3, 4e-3, 2e-3, 1e-3), (1e-3, 1e-2, 5e-3, 2.5e-4)),
        "clip_ratio": ((0.8, 0.5, 0.2, 0.9), (0.8, 0.5, 0.2, 0.9)),
    },
    logit=("clip_ratio",),
    controller="lhopt",
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "digits.json"
    write(RECORDING, path)
    return path


def test_show_prints_points_of_the_run_and_draws_every_trajectory(file, capsys):
    assert main(["schedule", "show", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "ciao under lhopt on digits: 2 runs of 40 updates, 4 pauses" in shown
    assert shown.splitlines()[2].split() == [
        "learning_rate", "0.001", "0.001", "0.00632", "0.00316", "0.0005", "0.0005",
    ]  # fmt: skip
    assert f"picture: {file.with_suffix('.html')}" in shown
    written = file.with_suffix(".html").read_text()
    assert written == html(RECORDING) and text(RECORDING) in shown
    assert written.count("<svg") == 2 and written.count("over the progress of a run") >= 2


def test_export_writes_the_values_of_another_run(file, tmp_path, capsys):
    out = tmp_path / "values.json"
    command = ["schedule", "export", str(file), "--steps", "8", "--form", "constant"]
    assert main([*command, "--every", "2", "--out", str(out)]) == 0
    assert "learning_rate, clip_ratio at 4 points of 8 updates" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert (found["optimizer"], found["num_steps"], found["updates"]) == ("ciao", 8, [0, 2, 4, 6])
    rates = np.sqrt([1e-6, 4e-5, 1e-5, 2.5e-7])
    np.testing.assert_allclose(found["values"]["learning_rate"], rates, rtol=1e-5)
    command += ["learning_rate=0.1", "--optimizer", "adamw"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["optimizer"] == "adamw" and [*found["values"]] == ["learning_rate"]
    np.testing.assert_allclose(max(found["values"]["learning_rate"]), 0.1, rtol=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "missing.json"], "missing.json: No such file"),
        (["export", "FILE", "--steps", "8", "--optimizer", "adamx"], "did you mean adam"),
        (["export", "FILE", "--steps", "8", "learning_rate"], "must be key=number"),
        (["export", "FILE", "--steps", "8", "--names", "eps"], "names: unknown name 'eps'"),
    ],
)
def test_mistakes_end_in_a_line(file, words, message, capsys):
    assert main(["schedule", *(str(file) if w == "FILE" else w for w in words)]) == 2
    assert message in capsys.readouterr().err
