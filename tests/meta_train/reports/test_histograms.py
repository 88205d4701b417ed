"""Histograms of a run: drawn as counted, kept through a resume, and no part of training."""

import json
import re
import shutil

import numpy as np
import pytest
from helpers.runs import weights

from meta_train.cli import main
from meta_train.reports import histograms as histogram_report
from meta_train.reports.heat_map import heat_map
from meta_train.reports.histograms import write_histogram_html
from meta_train.reports.meta_training import training_html
from meta_train.run.checkpoint import saved_steps
from meta_train.run.metrics_log import read_histograms


@pytest.fixture(scope="module")
def recorded(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "recorded"
    assert main(["train", str(tiny), "--out", str(out), "histograms_every=25"]) == 0
    return out


@pytest.mark.slow
def test_a_run_records_without_being_changed(recorded, whole):
    for name, expected in weights(whole).items():
        np.testing.assert_allclose(weights(recorded)[name], expected, rtol=1e-5)
    rows = read_histograms(recorded / "histograms.jsonl")
    assert list(dict.fromkeys(row["step"] for row in rows)) == [0, 25, 50]
    assert len(rows) == 3 * len(weights(whole))
    assert all(0 < row["gradient"]["rms"] < 10 for row in rows if row["step"] == 25)
    assert not (whole / "histograms.jsonl").exists()


@pytest.mark.slow
def test_a_resumed_run_has_every_row_once(recorded, tiny, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(recorded, run)
    for step in saved_steps(run / "checkpoints"):
        if step > 49:
            shutil.rmtree(run / "checkpoints" / f"{step:08d}")
    with (run / "histograms.jsonl").open("a") as file:
        file.write('{"step": 50, "leaf')  # as a kill in the midst of a write leaves it
    assert saved_steps(run / "checkpoints")
    args = ["train", str(tiny), "--out", str(run), "histograms_every=25", "--resume"]
    assert main(args) == 0
    assert (run / "histograms.jsonl").read_text() == (recorded / "histograms.jsonl").read_text()


def test_the_report_of_a_run_draws_them(recorded, whole, monkeypatch):
    monkeypatch.setattr(histogram_report, "DRAWN", 1)
    text = training_html(recorded)
    assert "<h2>Meta-gradient, update and weights</h2>" in text
    assert text.count('aria-label="histogram of') == 3
    assert "the largest 1 of" in text
    assert "<h2>Meta-gradient, update and weights</h2>" not in training_html(whole)


def test_the_page_needs_nothing_but_itself(recorded, tmp_path):
    lines = (recorded / "histograms.jsonl").read_text().splitlines()
    row = json.loads(lines[0])
    path = write_histogram_html([row | {"leaf": "<b>&"}], tmp_path / "page.html", "A & B")
    text = path.read_text(encoding="utf-8")
    assert "http" not in text.replace("http://www.w3.org/", "")
    assert "<h1>A &amp; B</h1>" in text and "&lt;b&gt;&amp;" in text and "<b>&" not in text
    with pytest.raises(ValueError, match="learned_opt.records"):
        write_histogram_html([], tmp_path / "none.html")


def test_a_heat_map_shades_the_bins_that_hold_entries():
    """Two records: 4 entries of 10 to 10^1.25, then 3 and one of magnitude 10^-0.25 to 1."""
    negative, positive = np.zeros((2, 2, 64), int)
    positive[:, 52] = [4, 3]
    negative[1, 47] = 1
    drawing = heat_map(negative, positive, [0, 10], 0, "a & b")
    assert 'aria-label="a &amp; b"' in drawing and 'viewBox="0 0 2 24"' in drawing
    # Decades -1 to 2: rows 0 to 11 from 100 down to 0.1, rows 12 to 23 from -0.1 down to -100.
    cells = re.findall(r'fill-opacity="([^"]+)" d="([^"]+)"', drawing)
    assert cells == [("0.5", "M1 15h1v1h-1z"), ("0.875", "M1 3h1v1h-1z"), ("1", "M0 3h1v1h-1z")]
    assert "10²" in drawing and "−10²" in drawing and "±10⁻¹" in drawing
    empty = heat_map(0 * negative, 0 * positive, [0, 10], 0, "nothing")
    assert "fill-opacity" not in empty
