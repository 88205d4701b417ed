"""Stages: who makes which meta-step, and that resuming at any of them changes nothing."""

import io
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from helpers.toys import Descent, NoisyLine, Parabola

from meta_train.estimators import PES
from meta_train.inner.horizons import Fixed
from meta_train.inner.objectives import MeanLoss
from meta_train.inner.unroll import Episodes
from meta_train.learners.gradient import GradientLearner
from meta_train.parallel import Parallel
from meta_train.progress import Progress
from meta_train.run.curriculum import Curriculum
from meta_train.run.loop import Loop, Plan, begin

FAMILIES = (NoisyLine(), Parabola(), NoisyLine(name="again"))


class Lines:
    def __init__(self):
        self.lines = []

    def scalars(self, step, values):
        self.lines.append((step, dict(values)))

    def histograms(self, rows):
        raise AssertionError("nothing records")

    def close(self, failed=False):
        pass


def curriculum(starts=(0, 3, 5), backend="vmap"):
    def build(stage):
        episodes = Episodes(FAMILIES[stage], Descent(), Fixed(5))
        estimator = PES(episodes, MeanLoss(), length=stage + 2)
        return GradientLearner(
            Descent(), (estimator,), (1.0,), 2, optax.adam(0.01), parallel=Parallel(backend, 1)
        )

    return Curriculum(starts, build)


def run(steps, state=None, backend="vmap"):
    """The state after `steps` meta-steps from the start or from a state on the host."""
    stages, sink = curriculum(backend=backend), Lines()
    learner, data = stages.program(stages.stage_of_state(0 if state is None else state[0]))
    fresh = begin(learner, learner.init(jax.random.key(0), data))
    if state is not None:
        leaves = jax.tree.leaves(state[1])
        restored = jax.tree.unflatten(jax.tree.structure(fresh.learner), leaves)
        fresh = fresh._replace(learner=learner.place(restored))
    loop = Loop(
        stages,
        Plan(steps=steps, log_every=2),
        score=lambda theta: 0.0,
        save=lambda step, state: None,
        stopped=lambda: False,
        sinks=[sink],
        progress=Progress(io.StringIO(), steps),
    )
    final = loop.run(fresh)
    return (steps, jax.device_get(final.learner)), sink


def numbers(state):
    leaves = [jax.random.key_data(x) if _is_key(x) else x for x in jax.tree.leaves(state[1])]
    return [np.asarray(leaf) for leaf in leaves]


def _is_key(leaf):
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@pytest.fixture(scope="module")
def whole():
    return run(7)


@pytest.mark.slow
def test_a_run_resumed_between_stages_and_within_one_is_the_same_run(whole):
    state = None
    for steps in (3, 4, 7):
        state, _ = run(steps, state)
    for a, b in zip(numbers(whole[0]), numbers(state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_stage_trains_its_own_tasks(whole):
    seen = {}
    for step, values in whole[1].lines:
        for name in values:
            if name.endswith("/objective"):
                seen.setdefault(name.split("/")[1], []).append(step)
    assert seen == {"noisy_line": [1, 2, 3], "parabola": [4, 5], "again": [6, 7]}


@pytest.mark.parametrize("backend", ["pmap", pytest.param("shard_map", marks=pytest.mark.slow)])
def test_what_was_compiled_ahead_runs_on_every_backend(whole, backend):
    state, _ = run(7, backend=backend)
    for a, b in zip(numbers(whole[0]), numbers(state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_stage_of_a_meta_step_and_of_a_state():
    stages = curriculum((0, 3, 5))
    assert [stages.stage(step) for step in range(7)] == [0, 0, 0, 1, 1, 2, 2]
    assert [stages.stage_of_state(step) for step in range(7)] == [0, 0, 0, 0, 1, 1, 2]


def test_the_next_stage_is_built_in_another_thread_and_only_once():
    built = []

    def build(stage):
        built.append((stage, threading.current_thread() is threading.main_thread()))
        raise ValueError(f"stage {stage}")

    stages = Curriculum((0, 3), build)
    stages.prepare(1)
    stages.prepare(2)
    with pytest.raises(ValueError, match="stage 1"):
        stages.program(1)
    assert built == [(1, False)]


@pytest.mark.slow
def test_a_run_ends_in_order_while_the_next_stage_compiles(tmp_path):
    out = tmp_path / "run"
    code = "from meta_train.cli import entry; entry()"
    phase = "phases=[{at: 50000, tasks: [{kind: resnet}, {kind: vision_transformer}]}]"
    config = Path(__file__).parents[3] / "configs" / "smoke.yaml"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "train", config, "steps=100000", phase, "--out", out]
    )
    metrics = out / "metrics.jsonl"
    while not metrics.is_file() or metrics.read_text().count("\n") < 10:
        assert process.poll() is None
        time.sleep(0.1)
    process.terminate()
    assert process.wait(timeout=10) == 130
    assert json.loads((out / "status.json").read_text())["status"] == "interrupted"
