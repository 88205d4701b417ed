"""Where a config meets files and families."""

import jax
import numpy as np
import pytest

from learned_opt import io
from learned_opt.anchors.relative_adam import RelativeAdam
from learned_opt.anchors.relative_soap import RelativeSoap
from learned_opt.learned.hierarchical_rnn import HierarchicalRNN
from meta_train.config.errors import ConfigError
from meta_train.config.loading import parse
from meta_train.run.build import build_learner, build_start, build_tasks
from tasks.cost import cost

TEXT = """
steps: 3
num_tasks: 2
optimizer: {kind: hierarchical_rnn, preset: nominal, level_sizes: [2, 2, 2]}
tasks: [{kind: quadratic, dim: 3}]
horizon: {kind: fixed, steps: 6}
estimator: {kind: pes, length: 3}
"""
RULE = HierarchicalRNN(RelativeAdam(), level_sizes=(2, 2, 2), use_relative_lr=False)


def test_start_from_takes_the_weights_of_a_file(tmp_path):
    theta = RULE.init(jax.random.key(7))
    io.write(tmp_path / "mine.safetensors", RULE, theta, {})
    config = parse(TEXT, overrides=[f"start_from={tmp_path / 'mine.safetensors'}"])
    learner = build_learner(config)
    state = learner.init(jax.random.key(0), learner.load(), build_start(config))
    jax.tree.map(np.testing.assert_array_equal, state.theta, theta)
    jax.tree.map(np.testing.assert_array_equal, learner.theta(state), theta)
    assert build_start(parse(TEXT)) is None


def test_start_from_refuses_other_shapes_and_missing_files(tmp_path):
    other = HierarchicalRNN.preset("paper")
    io.write(tmp_path / "other.safetensors", other, other.init(jax.random.key(0)), {})
    with pytest.raises(ConfigError, match="start_from: .*another shape"):
        build_start(parse(TEXT, overrides=[f"start_from={tmp_path / 'other.safetensors'}"]))
    with pytest.raises(ConfigError, match="start_from: .*nowhere"):
        build_start(parse(TEXT, overrides=["start_from=nowhere.safetensors"]))


def test_what_only_shows_when_the_parts_meet_is_reported_with_its_key():
    with pytest.raises(ConfigError, match="estimator.length: 9 must be between 1 and .* 6"):
        build_learner(parse(TEXT, overrides=["estimator.length=9"]))
    with pytest.raises(ConfigError, match="only.*did you mean param_readout"):
        build_learner(parse(TEXT, overrides=["only=[param_readot]"]))
    backprop = "estimator={kind: backprop, length: 2}"
    with pytest.raises(ConfigError, match="only.*did you mean param_readout"):
        build_learner(parse(TEXT, overrides=[backprop, "only=[param_readot]"]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["anchored_mlp", "hierarchical_rnn, preset: nominal"])
def test_a_rule_over_another_anchor_is_meta_trained(kind):
    block = f"optimizer={{kind: {kind}, anchor: {{kind: relative_soap}}}}"
    config = parse(TEXT, overrides=[block])
    learner = build_learner(config)
    assert learner.optimizer.anchor == RelativeSoap()
    data = learner.load()
    state = learner.init(jax.random.key(0), data, None)
    before = jax.device_get(learner.theta(state))
    for _ in range(2):
        state, _ = learner.step(state, data)
    after = learner.theta(state)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
    assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True))


def test_a_sampled_block_becomes_its_families_and_shares_its_weight():
    block = "tasks=[{kind: quadratic, dim: 3}, " + (
        "{kind: sampled, distribution: literature_paper, seed: 1, count: 4, weight: 2}]"
    )
    mix = build_tasks(parse(TEXT, overrides=[block, "limit.operations=200000"]))
    assert mix.weights == (1.0, 0.5, 0.5, 0.5, 0.5)
    assert len({family.name for family in mix.families}) == 5
    assert all(cost(family).operations <= 200_000 for family in mix.families)


def test_a_named_task_above_the_limit_is_refused_with_its_cost():
    overrides = ["tasks.0.dim=30", "limit.parameters=20"]
    message = "tasks.0: 30 parameters are above the limit of 20"
    with pytest.raises(ConfigError, match=message):
        build_tasks(parse(TEXT, overrides=overrides))


def test_a_limit_nothing_drawn_is_within_is_refused(monkeypatch):
    monkeypatch.setattr("tasks.distributions.base._ATTEMPTS", 4)
    overrides = ["tasks=[{kind: sampled, distribution: lhopt}]", "limit.operations=1"]
    with pytest.raises(ConfigError, match="tasks.0: limit: .* is not allowed"):
        build_tasks(parse(TEXT, overrides=overrides))
