import json

import jax
import numpy as np
import pytest
from helpers.toys import NoisyLine

from learned_opt import io
from learned_opt.anchors.relative_adam import RelativeAdam
from learned_opt.learned.hierarchical_rnn import HierarchicalRNN
from meta_train.evaluation.evaluate import evaluate, standard_baselines
from meta_train.evaluation.results import ResultsError
from meta_train.run.export import compute, export_run

RULE = HierarchicalRNN(RelativeAdam(), level_sizes=(2, 2, 2), use_relative_lr=False)


@pytest.fixture
def run(tmp_path):
    """A run folder: 30 meta-steps at 2 per second, then 30 at 1; compiled 6 minutes, scored 12."""
    folder = tmp_path / "run"
    (folder / "weights").mkdir(parents=True)
    lines = [{"step": step, "meta/loss": 1.0} for step in range(1, 61)]
    lines[29] |= {"time/meta_steps_per_second": 2.0, "time/inner_steps_per_second": 200.0}
    lines[59] |= {"time/meta_steps_per_second": 1.0, "time/inner_steps_per_second": 100.0}
    lines[0] |= {"time/first_step_seconds": 360.0}
    lines.insert(30, {"step": 30, "eval/score": -1.0, "time/eval_seconds": 720.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "environment.json").write_text('{"cpus": 2, "devices": {"kind": "cpu", "count": 1}}')
    theta = RULE.init(jax.random.key(0))
    io.write(folder / "weights" / "best.safetensors", RULE, theta, {"meta_steps": 40})
    return folder


def test_the_card_says_what_the_run_cost(run, tmp_path):
    spent = compute(run)
    assert (spent["meta_steps"], spent["inner_steps"], spent["cpus"]) == (60, 6000, 2)
    assert spent["hours"] == round((30 / 2 + 30 / 1 + 360 + 720) / 3600, 2)
    card = export_run(run, tmp_path / "mine.safetensors")
    assert card["compute"] == spent and card["meta_steps"] == 40


def test_the_card_takes_the_scores_of_an_evaluation(run, tmp_path):
    entries = standard_baselines(["adam_1e-3", "relative_adam"])
    report = evaluate(entries, [NoisyLine()], seeds=2, steps=8)
    report.save(tmp_path / "results")
    card = export_run(run, tmp_path / "mine.safetensors", results=tmp_path / "results")
    scores = card["results"]
    assert scores["yardstick"] == "relative_adam" and scores["seeds"] == 2
    assert scores["final_loss_ratio"]["relative_adam"] == {"noisy_line": 1.0}
    expected = np.exp(np.log(report.scores.ratio[0, 0]).mean())
    found = scores["final_loss_ratio"]["adam_1e-3"]["noisy_line"]
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    with pytest.raises(ResultsError, match="nowhere"):
        export_run(run, tmp_path / "mine.safetensors", results=tmp_path / "nowhere")
