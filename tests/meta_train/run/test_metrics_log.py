"""Sinks: what is written, what survives a kill, and that a remote one cannot stop a run."""

import json
import math
import time

import jax.numpy as jnp
import optax
import pytest

from learned_opt import record, records
from meta_train.run.metrics_log import JsonLines, keep_lines
from meta_train.run.wandb_log import Guarded, Wandb


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_is_there_at_once_and_not_finite_is_null(tmp_path):
    path, rows = tmp_path / "m.jsonl", tmp_path / "h.jsonl"
    sink = JsonLines(path, rows)
    sink.scalars(1, {"a": 0.5, "b": math.nan, "c": math.inf})
    assert read(path) == [{"step": 1, "a": 0.5, "b": None, "c": None}]
    sink.scalars(2, {"a": 1e-300})
    sink.close()
    assert not rows.exists()
    sink = JsonLines(path, rows)
    sink.histograms([{"step": 0, "leaf": "w"}, {"step": 4, "leaf": "w"}])
    assert [row["step"] for row in read(rows)] == [0, 4]
    sink.scalars(3, {})
    sink.close()
    assert [line["step"] for line in read(path)] == [1, 2, 3]


@pytest.mark.parametrize("torn", ['{"step": 9', '{"step": 9}', "\x00\x00", '"x"\n', "{}\n", "[1\n"])
def test_torn_and_later_lines_are_dropped(tmp_path, torn):
    path = tmp_path / "m.jsonl"
    path.write_text("".join(f'{{"step": {n}}}\n' for n in range(5)) + torn)
    keep_lines(path, lambda line: line["step"] <= 3)
    assert path.read_text() == "".join(f'{{"step": {n}}}\n' for n in range(4))


def test_bytes_that_are_no_text_are_dropped(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step": 1}\n\xff\xfe{"step": 2}\n')
    keep_lines(path, lambda line: True)
    assert read(path) == [{"step": 1}]


def test_no_file_is_no_lines(tmp_path):
    keep_lines(tmp_path / "none", lambda line: True)
    assert not (tmp_path / "none").exists()


class Failing:
    def __init__(self):
        self.calls = 0

    def scalars(self, step, values):
        self.calls += 1
        if step == 2:
            raise ConnectionError("the network is gone")

    def histograms(self, rows):
        self.calls += 1

    def close(self, failed=False):
        self.calls += 1


def test_a_failing_remote_sink_is_turned_off_with_one_warning(capsys):
    sink = Failing()
    guarded = Guarded("wandb", sink)
    for step in range(1, 6):
        guarded.scalars(step, {})
    guarded.close()
    assert sink.calls == 2
    assert capsys.readouterr().err == "warning: wandb is off from here on: the network is gone\n"


def test_wandb_offline_needs_no_account_and_a_resumed_run_keeps_its_id(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "")  # which wandb alone does not survive
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    state = record(optax.sgd(0.1)).init({"w": jnp.ones(2)})
    rows = records(state._replace(steps=jnp.arange(64)))[:2]
    for _ in range(2):
        sink = Wandb(tmp_path, "offline", "test", {"steps": 3})
        for step in (1, 2):
            sink.scalars(step, {"meta/loss": 0.5})
        sink.histograms(rows)
        sink.close()
    (run_id,) = (tmp_path / "wandb_id.txt").read_text().split()
    folders = sorted((tmp_path / "wandb").glob("offline-run-*"))
    # The files, not the folders: wandb appends a number to one begun within the same second.
    files = [folder / f"run-{run_id}.wandb" for folder in folders]
    assert files and all(file.is_file() for file in files)
    until = time.monotonic() + 60  # its own process writes on after `close`
    while time.monotonic() < until and b"histograms/update/w" not in files[0].read_bytes():
        time.sleep(0.05)
    assert time.monotonic() < until
