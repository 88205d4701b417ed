import json
from pathlib import Path

import numpy as np
import pytest

from meta_train.config.loading import load
from meta_train.evaluation.results import ResultsError
from meta_train.reports import meta_training as training_report
from meta_train.run.metrics_log import read_metrics

ROOT = Path(__file__).parents[3]


@pytest.fixture
def run(tmp_path):
    lines = []
    for step in range(1, 301):
        line = {"step": step, "meta/loss": 1.0 / step, "tasks/a&b/objective": -float(step)}
        if step == 7:
            line["meta/loss"] = None
        lines.append(json.dumps(line))
        if step % 100 == 0:
            score = -0.5 if step == 200 else 0.1
            lines.append(json.dumps({"step": step, "eval/score": score}))
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 301, "meta')
    (tmp_path / "config.yaml").write_text("seed: 0 # <tag>\n")
    return tmp_path


def test_metrics_are_read_with_gaps_and_torn_lines(run):
    metrics = read_metrics(run / "metrics.jsonl")
    assert metrics["meta/loss"].shape == (300, 2)
    assert np.isnan(metrics["meta/loss"][6, 1])
    assert metrics["eval/score"].tolist() == [[100.0, 0.1], [200.0, -0.5], [300.0, 0.1]]


def test_the_page_shows_every_family_and_the_best_score(run):
    path = training_report.write_training_html(run)
    text = path.read_text(encoding="utf-8")
    assert "300 meta-steps; best selection score -0.5 at meta-step 200" in text
    assert text.count("<figure>") == 3
    assert "a&amp;b" in text and "&lt;tag&gt;" in text
    assert "http" not in text.replace("http://www.w3.org/", "")
    assert training_report.training_html(run) == text


def test_a_run_without_metrics_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="no such file"):
        training_report.write_training_html(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("[1]\nnot json\n")
    with pytest.raises(ResultsError, match="no metrics"):
        training_report.write_training_html(tmp_path)


def test_what_is_said_about_a_family_is_about_the_end_of_training(tmp_path):
    lines = []
    for step in range(1, 101):
        late = step > 80
        line = {"step": step, "tasks/f/objective": 1.0, "tasks/f/grad_snr": 7.25 if late else 1.0}
        line |= {"tasks/f/rejected": 0.5 if step == 100 else 0.0, "tasks/f/horizon": 31.0}
        line |= {f"tasks/f/position/{i}": None if i == 9 else float(i) for i in range(10)}
        lines.append(json.dumps(line))
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    text = training_report.training_html(tmp_path)
    assert ">7.25<" in text and ">2.50%<" in text and ">31<" in text
    assert "score along a run of f" in text
    assert "How long inner runs are" not in text


def test_horizons_in_force_follow_growth_and_phases():
    config = load(
        ROOT / "configs" / "smoke.yaml",
        [
            "steps=100",
            "horizon={kind: growing, low: 10, high_first: 10, high_last: 1000, over: 50}",
            "phases=[{at: 60, horizon: {kind: fixed, steps: 33}}]",
        ],
    )
    steps, quantiles = training_report.horizons_in_force(config, 99)
    assert quantiles[0].tolist() == [10, 10, 10]
    np.testing.assert_allclose(quantiles[(steps >= 50) & (steps < 60), 1], 100, rtol=0.15)
    assert (quantiles[steps >= 60] == 33).all()
