"""Where a config meets files and families."""

import jax
import numpy as np
import pytest

from learned_opt import io
from learned_opt.hierarchical_rnn import HierarchicalRNN
from meta_train.build import build_learner, build_start
from meta_train.config import parse
from meta_train.config_errors import ConfigError

TEXT = """
steps: 3
num_tasks: 2
optimizer: {kind: hierarchical_rnn, preset: nominal, level_sizes: [2, 2, 2]}
tasks: [{kind: quadratic, dim: 3}]
horizon: {kind: fixed, steps: 6}
estimator: {kind: pes, length: 3}
"""
RULE = HierarchicalRNN(output="nominal", level_sizes=(2, 2, 2), use_relative_lr=False)


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
    with pytest.raises(ConfigError, match="estimator.only.*did you mean param_readout"):
        build_learner(parse(TEXT, overrides=["estimator.only=[param_readot]"]))
