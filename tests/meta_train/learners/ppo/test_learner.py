"""A controller's training as a run like any other: begun, stopped, resumed, spread, refused."""

import shutil

import jax
import numpy as np
import pytest
from helpers.runs import metrics, same_run

from meta_train.cli import main
from meta_train.config import loading
from meta_train.config.errors import ConfigError
from meta_train.config.model import Parallel
from meta_train.run.build import build_learner

TINY = """
steps: 4
num_tasks: 4
optimizer: {kind: lhopt, dense: 4, lstm: 4, trunk: 4, end_weights: [5.0]}
tasks: [{kind: quadratic, dim: 2}]
estimator:
  {kind: ppo, buckets: [{task: quadratic, pauses: 3, steps: 4}], samples: 2, seeds: 2}
meta_optimizer: {kind: adam, learning_rate: 1e-2, schedule: linear, final: 0.2, clip_norm: 0.5}
log_every: 2
checkpoint: {every_steps: 2, every_seconds: null}
"""


def test_a_run_stopped_halfway_goes_on_as_if_it_had_not_been(tmp_path):
    file, whole, cut = tmp_path / "tiny.yaml", tmp_path / "whole", tmp_path / "cut"
    file.write_text(TINY)
    assert main(["train", str(file), "--out", str(whole)]) == 0
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoints" / "00000004")
    assert main(["train", str(file), "--out", str(cut), "--resume"]) == 0
    same_run(whole, cut)
    last = metrics(whole)[-1]
    assert last["step"] == 4 and last["meta/loss"] == last["tasks/quadratic-3x4/objective"]
    assert 0.0 < last["ppo/kl"] < 0.1
    assert main(["report", str(whole)]) == 0
    card = tmp_path / "controller.safetensors"
    assert main(["export", str(whole), str(card), "--step", "2"]) == 0


def learned(text, **changes):
    config = loading.parse(text)
    one = build_learner(config.model_copy(update=changes))
    data = one.load()
    state, seen = one.step(one.init(jax.random.key(0), data), data)
    return one, data, state, seen


@pytest.mark.slow
def test_two_shards_make_the_step_that_one_makes():
    parallel = Parallel(backend="vmap", devices=2)
    (_, _, one, alone), (_, _, two, spread) = learned(TINY), learned(TINY, parallel=parallel)
    for a, b in zip(jax.tree.leaves(one.theta), jax.tree.leaves(two.theta), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)
    assert alone.keys() == spread.keys()
    np.testing.assert_allclose(alone["meta/loss"], spread["meta/loss"], rtol=1e-5)


@pytest.mark.slow
def test_the_bar_of_self_play_is_the_policy_itself_and_rises_with_it():
    text = TINY.replace("samples: 2", "baseline: self_play, cap: 2.0, refresh: 2, samples: 2")
    one, data, state, _ = learned(text)
    first = state.baselines
    state, _ = one.step(state, data)
    same = np.testing.assert_array_equal
    jax.tree.map(same, state.baselines, first)
    moved = jax.tree.map(lambda w: w + 0.5, state.theta_average["policy"])
    state = state._replace(theta_average=state.theta_average | {"policy": moved})
    state, _ = one.step(state, data)
    assert not np.array_equal(state.baselines[0].losses, first[0].losses)
    other, arrays, *_ = learned(TINY)
    taken = other.take_over(state, arrays)
    assert not np.array_equal(taken.baselines[0].losses, state.baselines[0].losses)
    other.step(taken, arrays)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("task: quadratic,", "task: quadratik,"), "buckets.0.task: .*did you mean quadratic"),
        (("steps: 4\n", "steps: 4\nhorizon: {kind: fixed, steps: 9}\n"), "horizon: says nothing"),
        (("steps: 4\n", "steps: 4\nobjective: {kind: mean_loss}\n"), "objective: says nothing"),
        (("dim: 2}", "dim: 2, weight: 2.0}"), "tasks.0.weight: ppo weighs tasks by"),
        (("{kind: lhopt, dense: 4, lstm: 4, trunk: 4, end_weights: [5.0]}", "{kind: small_fc}"),
         "estimator: ppo trains lhopt, not small_fc"),
        (("dim: 2}]", "dim: 2}, {kind: bowl}]"), "buckets: there is none for the tasks bowl"),
        (("pauses: 3", "pauzes: 3"), "pauzes: unknown key"),
        (("samples: 2", "clip: 0.0, samples: 2"), "estimator.*clip: 0.0 must be above 0"),
        (("log_every: 2", "phases: [{at: 2, estimator: {kind: pes, length: 5}}]"),
         "phases.0.estimator: ppo cannot take turns"),
    ],
)  # fmt: skip
def test_configs_that_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        loading.parse(TINY.replace(*change))


def test_without_ppo_a_horizon_is_missing():
    text = "steps: 4\noptimizer: {kind: small_fc}\ntasks: [{kind: bowl}]\n"
    with pytest.raises(ConfigError, match="horizon: missing"):
        loading.parse(text + "estimator: {kind: pes, length: 5}\n")


def test_episodes_divide_over_minibatches():
    config = loading.parse(TINY.replace("num_tasks: 4", "num_tasks: 5"))
    with pytest.raises(ConfigError, match="5 episodes do not divide .* the next that do are 6"):
        build_learner(config)
