"""A rule that reads a loss, loaded by someone who gives none."""

import warnings
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

import learned_opt
from learned_opt.learned.anchored_mlp import AnchoredMLP
from learned_opt.learned.small_fc import SmallFC
from learned_opt.learned.tensor_lstm import TensorLSTM

PARAMS = {"w": jnp.ones(2)}
NEVER = [{"value": 1.0}, {"value": 1.0, "eval_value": None}]


@pytest.fixture
def saved(tmp_path):
    rule = TensorLSTM(hidden=2, lstm_hidden=2)
    learned_opt.write(tmp_path / "rule.safetensors", rule, rule.init(jax.random.key(0)), {})
    return tmp_path / "rule.safetensors"


def trace(tx, **losses):
    """An update that is traced, not run."""

    def step(params):
        updates, _ = tx.update(params, tx.init(params), params, **losses)  # the user's line
        return updates

    return jax.eval_shape(step, PARAMS)


@pytest.mark.parametrize("losses", NEVER)
def test_one_warning_for_each_loaded_rule_at_the_users_line(saved, losses):
    for wrap in (lambda tx: tx, lambda tx: optax.chain(optax.clip(1.0), tx)):
        tx = wrap(learned_opt.load(saved))
        with pytest.warns(UserWarning, match="eval_value=validation_loss") as seen:
            trace(tx, **losses)
        assert [found.filename for found in seen] == [__file__]
        lines = Path(__file__).read_text().splitlines()
        assert "the user's line" in lines[seen[0].lineno - 1]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            trace(tx, **losses)


def test_none_is_not_a_loss(saved):
    """The training loss stands in for it, as the warning says."""
    tx = learned_opt.load(saved)
    for losses in NEVER:
        update = partial(tx.update, PARAMS, tx.init(PARAMS), PARAMS, **losses)
        with warnings.catch_warnings(action="ignore"):
            heard = jax.jit(lambda update=update: update()[1].valid_loss)()
        assert heard.count == 1 and heard.mean > 0.0


def test_no_warning_where_it_is_given_or_not_read(saved, tmp_path):
    other = tmp_path / "other.safetensors"
    learned_opt.write(other, SmallFC(), SmallFC().init(jax.random.key(0)), {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace(learned_opt.load(saved), value=1.0, eval_value=2.0)
        trace(learned_opt.load(saved), value=1.0, eval_value=jnp.nan)
        trace(learned_opt.load(other), value=1.0)


@pytest.mark.parametrize("losses", [{}, {"value": None}])
@pytest.mark.parametrize("rule", [AnchoredMLP(hidden=2), TensorLSTM(hidden=2, lstm_hidden=2)])
def test_one_warning_where_the_training_loss_is_missing(rule, losses, tmp_path):
    path = tmp_path / "rule.safetensors"
    learned_opt.write(path, rule, rule.init(jax.random.key(0)), {})
    tx = learned_opt.load(path)
    with pytest.warns(UserWarning, match="reads the training loss and is given none") as seen:
        trace(tx, eval_value=1.0, **losses)
    assert [found.filename for found in seen] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace(tx, eval_value=1.0, **losses)
        trace(learned_opt.load(path), value=1.0, eval_value=1.0)


def test_rules_that_read_no_loss_are_content_without_one(tmp_path):
    path = tmp_path / "rule.safetensors"
    learned_opt.write(path, SmallFC(), SmallFC().init(jax.random.key(0)), {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in (path, "relative_adam", "hierarchical_rnn"):
            trace(learned_opt.load(name))
