"""The benchmarks measure what they say; speeds themselves are nobody's promise here."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from learned_opt import LEARNED, packaged
from meta_train.benchmarks import (
    evaluation as benchmark_evaluate,
    meta as benchmark_meta,
    step as benchmark_step,
)
from meta_train.benchmarks.timing import medians
from meta_train.cli import main
from meta_train.config import loading
from meta_train.inner.horizons import LogUniform
from meta_train.run.build import build_learner, build_tasks
from tasks.cost import cost

PEER = Path(__file__).parents[3] / "configs" / "peer.yaml"
TINY = """
steps: 5
num_tasks: 2
optimizer: {kind: small_fc, hidden: 1}
tasks: [{kind: quadratic, dim: 3}]
horizon: {kind: log_uniform, low: 4, high: 8}
estimator: {kind: pes, length: 4}
only: [w2]
"""


def test_contenders_take_turns():
    order = []
    taken, made = medians({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 0.0, 3)
    assert order == ["a", "b"] * 3 and made == 3 and taken.keys() == {"a", "b"}


def test_bench_step_measures_the_rules_asked_for(capsys, monkeypatch):
    monkeypatch.setattr(benchmark_step, "WIDTH", 8)
    monkeypatch.setattr(benchmark_step, "LEAVES", 2)
    monkeypatch.setattr(benchmark_step, "REPETITIONS", 2)
    assert main(["bench", "step", "sgd", "small_fc/hidden_32", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = found["optimizers"]
    assert found["parameters"] == 4 * 8 * 8
    assert list(rows) == ["optax.adam", "sgd", "small_fc/hidden_32"]
    assert rows["optax.adam"]["ratio"] == 1.0
    held = [row["state_bytes_per_parameter"] for row in rows.values()]
    # Counters are four bytes of 256 parameters; small_fc keeps 4 numbers and rows and columns.
    np.testing.assert_allclose(held, [8 + 4 / 256, 4, 16 + 4 * 3 * 2 / 8 + 4 / 256])
    assert all(row["ms"] > 0 and row["compile_deep_seconds"] > 0 for row in rows.values())
    assert benchmark_step.lines(found).count("\n") == 3


def test_bench_step_knows_every_learned_rule(monkeypatch):
    monkeypatch.setattr(benchmark_step, "_compile", lambda *_: (None, {"compile_seconds": 1}))
    monkeypatch.setattr(benchmark_step, "medians", lambda runs, **_: (dict.fromkeys(runs, 1), 1))
    rows = benchmark_step.step()["optimizers"]
    assert set(LEARNED) | set(packaged()) | {"optax.adam"} == set(rows)


def test_bench_evaluate_takes_the_yardstick_from_its_cache(capsys, monkeypatch, small_suite):
    for name, value in (("SUITE", small_suite), ("STEPS", 2), ("TARGET", "relative_adam")):
        monkeypatch.setattr(benchmark_evaluate, name, value)
    assert main(["bench", "evaluate", "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["rates"] == 15 and found["seeds"] == 3
    assert found["cold_sweep_seconds"] > 0 and found["warm_evaluation_seconds"] > 0
    told = [line for line in printed.err.splitlines() if "to go;" in line]
    assert told == [
        "15 run(s) to go; compiling 1 program(s)",
        "1 run(s) to go; compiling 1 program(s)",
    ]
    assert main(["bench", "evaluate", "adam"]) == 2


@pytest.mark.slow
def test_bench_meta_tells_speed_and_what_it_goes_into(capsys, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    assert main(["bench", "meta", str(path), "--seconds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # Two pairs of two runs, four steps each.
    np.testing.assert_allclose(found["inner_steps_per_second"], 16 * found["meta_steps_per_second"])
    assert found["optimizer_share"] < 1.0 and found["host_percent"] > 0.0
    assert "anchor_share" not in found
    assert found["meta_steps"] >= 5 and found["peak_memory_mib"] > 100


@pytest.mark.slow
def test_bench_meta_tells_what_an_anchor_costs(capsys, tmp_path):
    path = tmp_path / "anchored.yaml"
    changed = {
        "small_fc, hidden: 1": "anchored_soap",
        "quadratic, dim: 3": "mlp_classifier, widths: [16]",
        "w2": "readout",
    }
    text = TINY
    for old, new in changed.items():
        text = text.replace(old, new)
    path.write_text(text)
    assert main(["bench", "meta", str(path), "--seconds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0.0 < found["anchor_share"] < found["optimizer_share"] < 1.0


CONTROLLER = """
steps: 2
num_tasks: 4
optimizer: {kind: lhopt, dense: 4, lstm: 4, trunk: 4, end_weights: [5.0]}
tasks: [{kind: quadratic, dim: 2}]
estimator:
  kind: ppo
  buckets:
    - {task: quadratic, pauses: 3, steps: 4}
    - {task: quadratic, pauses: 2, steps: 4, episodes: 2}
  samples: 2
  seeds: 1
"""


@pytest.mark.slow
def test_bench_controller_tells_every_bucket_and_the_whole(capsys, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(CONTROLLER)
    assert main(["bench", "controller", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["bucket"] for row in found["buckets"]] == ["quadratic-3x4", "quadratic-2x4"]
    whole = found["iteration"]
    assert whole["episodes"] == sum(row["episodes"] for row in found["buckets"]) == 6
    seconds = 3600.0 / whole["iterations_per_hour"]
    steps = 4 * 3 * 4 + 2 * 2 * 4
    np.testing.assert_allclose(whole["environment_steps_per_second"] * seconds, steps)
    path.write_text(TINY)
    assert main(["bench", "controller", str(path)]) == 2
    assert "estimator.kind is not ppo" in capsys.readouterr().err


def test_the_sweep_varies_one_thing_at_a_time():
    config = loading.load(PEER)
    rows = list(benchmark_meta.variants(config))
    assert [row[:2] for row in rows] == [
        *(("tasks", tasks) for tasks in (8, 16, 32)),
        *(("parameters", 75 * width + 10) for width in (64, 128, 256)),
        *(("length", length) for length in (25, 10)),
    ]
    base = config.model_dump()
    for vary, _, changed in rows[1:]:
        differs = [key for key, value in changed.model_dump().items() if value != base[key]]
        assert differs == [
            {"tasks": "num_tasks", "parameters": "tasks", "length": "estimator"}[vary]
        ]


def test_the_peer_preset_is_the_peers_program():
    config = loading.load(PEER)
    (family,) = build_tasks(config).families
    assert cost(family).parameters == 64 * 32 + 32 + 32 * 10 + 10
    task = family.task(family.sample(jax.random.key(0)), family.load())
    batch = task.batch(jax.random.key(0), "train")
    assert {leaf.shape[0] for leaf in jax.tree.leaves(batch)} == {64}
    learner = build_learner(config)
    theta = learner.optimizer.init(jax.random.key(0))
    assert theta["w0"].shape == (39, 4) and theta["w1"].shape == (4, 4)
    (estimator,) = learner.estimators
    assert (estimator.length, estimator.episodes.horizons) == (50, LogUniform(100, 2000))
    assert learner.inner_steps == 2 * 8 * 50


@pytest.mark.slow
def test_every_number_of_devices_is_measured_in_its_own_process():
    config = loading.load(PEER)
    rows = list(benchmark_meta._over_devices(config, str(PEER), ["optimizer.hidden=1"]))
    assert [row["vary"] for row in rows] == ["devices"] * len(rows) and rows[0]["value"] == 1
    assert all(row["inner_steps_per_second"] > 0 for row in rows)
