"""A controller in use: one transformation, a facade around a loop, and what either drives."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt import io
from learned_opt.controller.actions import SMALL, TABLES
from learned_opt.controller.lhopt import LHOPT

RULE = LHOPT(pauses=3, dense=4, lstm=3, trunk=4)
STEPS = 13  # pauses before steps 0, 4 and 8
X = jax.random.normal(jax.random.key(0), (16, 3))
START = {"w": jax.random.normal(jax.random.key(1), (3, 2)), "b": jnp.zeros(2)}
NOOPS = (0, *(action.neutral for action in SMALL))
LOADS, HALVES = (2, *NOOPS[1:]), (0, 0, *NOOPS[2:])


@jax.jit
@jax.value_and_grad
def loss(params):
    return jnp.mean(jnp.square(jnp.tanh(X @ params["w"] + params["b"]) - jnp.sin(3 * X[:, :2])))


@lru_cache
def fresh():
    return jax.tree.map(np.asarray, jax.jit(RULE.init)(jax.random.key(0)))


def always(*choices):
    """Weights that choose the same at every pause."""
    theta: Any = {**fresh(), "policy": {**fresh()["policy"], "heads": {}}}
    for choice, (name, head) in zip(choices, fresh()["policy"]["heads"].items(), strict=True):
        bias = np.zeros_like(head["last"]["b"])
        bias[choice] = 1.0
        last = {"w": np.zeros_like(head["last"]["w"]), "b": bias}
        theta["policy"]["heads"][name] = {**head, "last": last}
    return jax.tree.map(jnp.asarray, theta)


def searching():
    """Weights whose edits differ from pause to pause and that keep away from registers."""
    theta = always(*NOOPS)
    draw = np.random.default_rng(0)
    for name, head in list(theta["policy"]["heads"].items())[1:]:
        last = {n: draw.normal(size=x.shape) for n, x in head["last"].items()}
        theta["policy"]["heads"][name] = {**head, "last": last}
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), theta)


@lru_cache
def compiled():
    """update(theta, horizon, ...) of the rule, one program for all tests."""

    @jax.jit
    def update(theta, horizon, gradients, state, params, value, eval_value):
        tx = RULE.opt(theta, horizon)
        updates, state = tx.update(gradients, state, params, value=value, eval_value=eval_value)
        return optax.apply_updates(params, updates), state

    return update


def transformed(theta, steps, evaluated, horizon=STEPS, factor=1.0):
    """(params, values) after each step; evaluated: step, loss -> eval_value."""
    params, told = START, []
    state = jax.jit(lambda: RULE.opt(theta, STEPS).init(START))()
    for i in range(steps):
        value, gradients = loss(params)
        value = factor * value
        params, state = compiled()(
            theta, horizon, gradients, state, params, value, jnp.float32(evaluated(i, value))
        )
        told.append((params, state.session.values))
    return told


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weight files, by what they choose."""
    place = tmp_path_factory.mktemp("controllers")
    for name, theta in (
        ("searching", searching()),
        ("noops", always(*NOOPS)),
        ("halves", always(*HALVES)),
    ):
        io.write(place / f"{name}.safetensors", RULE, theta, {})
    return place


def driven(control, steps, factor=0.9):
    """(params, values) after each step of a user's loop."""
    params, state, told, losses = START, control.init(START), [], []
    for i in range(steps):
        value, gradients = loss(params)
        if i % control.every == 0:
            mean = np.mean(losses, dtype=np.float32) if losses else value
            params, state = control.step(params, state, jnp.float32(mean), factor * value)
            losses = []
        losses.append(value)
        updates, state = control.update(gradients, state, params, value=value)
        params = optax.apply_updates(params, updates)
        told.append((params, state.hyperparameters))
    return told


def close(a, b, rtol=1e-5):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-7)


def test_one_transformation_does_what_the_facade_does_and_holds_after_the_end(folder):
    control = learned_opt.controller(folder / "searching.safetensors", num_steps=STEPS)
    assert control.every == 4
    facade = driven(control, 18)
    at_pauses = lambda i, value: 0.9 * value if i % 4 == 0 else np.nan
    one = transformed(searching(), 18, at_pauses)
    close(facade, one, rtol=1e-3)
    rates = [float(values["learning_rate"]) for _, values in one]
    assert len(set(rates[::4][:3])) > 1 and len(set(rates[8:])) == 1


def test_a_load_is_an_update_of_its_own_back_to_the_start():
    told = transformed(always(*LOADS), 9, lambda i, value: value)
    for i in (4, 8):
        close(told[i][0], START, rtol=1e-5)
        assert not np.allclose(told[i - 1][0]["w"], START["w"], rtol=1e-4)
    close(told[5][0], told[0][0])


def test_without_a_validation_loss_the_training_loss_stands_in():
    losses = []

    def mean_so_far(i, value):
        losses.append(value)
        return np.mean(losses[i - 4 : i], dtype=np.float32) if i >= 4 else value

    plain = transformed(searching(), 10, lambda i, value: np.nan)
    close(transformed(searching(), 10, mean_so_far), plain)


def test_a_run_that_is_all_nan_goes_back_and_stays_finite():
    told = transformed(always(*HALVES), 10, lambda i, value: np.nan, factor=np.nan)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(told))
    close(told[4][0], START)  # where the last pause left it


def test_shorter_runs_pause_before_every_step():
    told = transformed(always(*HALVES), 4, lambda i, value: value, horizon=2)
    rates = [float(values["learning_rate"]) for _, values in told]
    np.testing.assert_allclose(rates, [5e-4, 2.5e-4, 2.5e-4, 2.5e-4])


@pytest.mark.parametrize("name, given", [("adam", {"b1": 0.8}), ("sgd", {"learning_rate": 0.1})])
def test_a_hand_designed_optimizer_is_driven_by_what_it_has(folder, name, given):
    tx = learned_opt.make(name, STEPS, **given)

    @jax.jit
    def plain(gradients, state, params):
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    params, state = START, tx.init(START)
    for _ in range(6):
        params, state = plain(loss(params)[1], state, params)
    path = folder / "noops.safetensors"
    control = learned_opt.controller(path, num_steps=STEPS, optimizer=name, **given)
    told = driven(control, 6)
    close(told[-1][0], params, rtol=1e-4)
    names = {"adam": {"learning_rate", "one_minus_b1", "one_minus_b2"}, "sgd": {"learning_rate"}}
    assert set(told[-1][1]) == names[name]
    if name == "adam":
        np.testing.assert_allclose(told[-1][1]["one_minus_b1"], 0.2, rtol=1e-6)


def test_no_weight_decay_stays_none_and_the_rest_is_controlled(folder):
    """0 has no logarithm to compare with its start; nothing that the policy reads may be NaN."""
    path = folder / "searching.safetensors"
    told = {}
    for optimizer in ("ciao", "adamw"):
        given: Any = {"optimizer": optimizer, "weight_decay": 0.0}
        control = learned_opt.controller(path, num_steps=STEPS, **given)
        told[optimizer] = driven(control, 6)[-1][1]
        assert {*told[optimizer]}.isdisjoint({"weight_decay"})
        state = control.step(START, control.init(START), 1.0, 1.0)[1]
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.recurrent))
        assert not np.isclose(told[optimizer]["learning_rate"], 1e-3)
    assert {*told["ciao"]} == {a.name for a in SMALL} - {"weight_decay"}


def test_the_point_to_evaluate_is_that_of_the_run_not_of_a_place_it_may_go_back_to(folder):
    path = folder / "noops.safetensors"
    control = learned_opt.controller(path, STEPS, "schedule_free_adamw", learning_rate=0.1)
    tx = learned_opt.make("schedule_free_adamw", STEPS, learning_rate=0.1)
    gradients, params, state = loss(START)[1], START, control.init(START)
    own, plain = tx.init(START), START
    params, state = control.step(params, state, 1.0, 1.0)
    for _ in range(3):
        updates, state = control.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        updates, own = tx.update(gradients, own, plain)
        plain = optax.apply_updates(plain, updates)
    wanted = learned_opt.eval_params(own, plain)
    close(learned_opt.eval_params(state, params), wanted, rtol=1e-4)
    assert not np.allclose(wanted["w"], START["w"], rtol=1e-3)
    assert not np.allclose(jax.tree.leaves(wanted)[1], jax.tree.leaves(plain)[1], rtol=1e-3)


def test_rules_that_read_the_loss_as_a_function_are_driven(folder):
    control = learned_opt.controller(
        folder / "noops.safetensors", num_steps=STEPS, optimizer="sgd", parts=["sam"]
    )
    value_of = lambda params: jnp.sum(jnp.square(params["w"])) + jnp.sum(params["b"])
    gradients = jax.grad(value_of)(START)
    state = control.init(START)
    found, _ = control.update(gradients, state, START, obj_fn=value_of)
    tx = learned_opt.make("sgd", STEPS, parts=["sam"])
    wanted, _ = tx.update(gradients, tx.init(START), START, obj_fn=value_of)
    close(found, wanted)


def test_rates_of_averages_are_left_alone_where_a_change_would_jump(folder):
    path = folder / "noops.safetensors"
    chosen: Any = (("adam", {"debias": "count"}), ("lion", {}))
    for name, given in chosen:
        control = learned_opt.controller(path, num_steps=STEPS, optimizer=name, **given)
        assert not {"one_minus_b1", "one_minus_b2"} & set(control.init(START).hyperparameters)


def test_the_step_size_of_a_learned_rule_is_driven(folder, tmp_path):
    rule = learned_opt.LEARNED["small_fc"](hidden=2)
    theta = jax.jit(rule.init)(jax.random.key(3))
    io.write(tmp_path / "rule.safetensors", rule, theta, {})
    control = learned_opt.controller(
        folder / "halves.safetensors", num_steps=STEPS, optimizer=tmp_path / "rule.safetensors"
    )
    (params, values), *_ = driven(control, 1)
    assert list(values) == ["learning_rate"]
    tx = rule.opt(theta, STEPS)
    updates, _ = jax.jit(tx.update)(loss(START)[1], tx.init(START), START)
    halves = jax.tree.map(lambda p, u: p + u / 2, START, updates)
    close(params, halves)
    assert not np.allclose(halves["w"], START["w"], rtol=1e-4)


def test_losses_that_are_not_one_number_are_told(folder, unchecked):
    tx = RULE.opt(fresh(), 10)
    state, one, two = tx.init(START), jnp.ones(()), jnp.ones(2)
    with pytest.raises(ValueError, match=r"^value: shape \(2,\) is not allowed"):
        tx.update(START, state, START, value=two, eval_value=one)
    with pytest.raises(ValueError, match=r"^eval_value: shape \(2,\) is not allowed"):
        tx.update(START, state, START, value=one, eval_value=two)
    control = learned_opt.controller(folder / "noops.safetensors", num_steps=10)
    with pytest.raises(ValueError, match=r"^train_loss: shape \(2,\) is not allowed"):
        control.step(START, control.init(START), two, one)


def test_bad_input(folder, tmp_path, monkeypatch, unchecked):
    path = folder / "noops.safetensors"
    given: Any = optax.adam(1e-3)
    with pytest.raises(ValueError, match="optimizer: GradientTransf.* is not allowed; .* name"):
        learned_opt.controller(path, num_steps=10, optimizer=given)
    text: Any = "10"
    with pytest.raises(ValueError, match="num_steps: '10' is not allowed"):
        learned_opt.controller(path, num_steps=text)
    with pytest.raises(ValueError, match="num_steps: a controller requires"):
        learned_opt.controller(path)
    with pytest.raises(ValueError, match="num_steps: .* requires the number of updates"):
        learned_opt.load(path)
    with pytest.raises(ValueError, match="HierarchicalRNN is an update rule, not a controller"):
        learned_opt.controller("hierarchical_rnn", num_steps=10)
    with pytest.raises(ValueError, match="is a controller itself"):
        learned_opt.controller(path, num_steps=10, optimizer=path)
    with pytest.raises(ValueError, match="adam.bb1: unknown hyperparameter; did you mean b1"):
        learned_opt.controller(path, num_steps=10, optimizer="adam", bb1=0.9)
    rate = optax.constant_schedule(0.1)
    with pytest.raises(ValueError, match="sgd.learning_rate: .* cannot be steered"):
        learned_opt.controller(path, num_steps=10, optimizer="sgd", learning_rate=rate)
    with pytest.raises(ValueError, match="ciao.clip: cannot be set"):
        learned_opt.controller(path, num_steps=10, clip="none")
    with pytest.raises(ValueError, match="ciao.learning_rate: .* cannot be steered"):
        learned_opt.controller(path, num_steps=10, learning_rate=rate)
    with pytest.raises(ValueError, match="ciao.clip_ratio: 1.5 .* above 0 and below 1"):
        learned_opt.controller(path, num_steps=10, clip_ratio=1.5)
    with pytest.raises(ValueError, match="pauses: 0 is not allowed; .* at least 1"):
        learned_opt.controller(path, num_steps=10, pauses=0)
    with pytest.raises(ValueError, match="learning_rate: -1.0 .* finite number above 0"):
        learned_opt.controller(path, 10, "anchored_mlp", learning_rate=-1.0)
    with pytest.raises(ValueError, match="value: lhopt reads the training loss"):
        RULE.opt(fresh(), 10).update(START, (), START)
    # Weights of another table: one that this release does not have, and one of other sizes.
    monkeypatch.setitem(TABLES, "mine", SMALL[:2])
    mine = LHOPT(actions="mine", dense=4, lstm=3, trunk=4)
    theta = jax.jit(mine.init)(jax.random.key(0))
    io.write(tmp_path / "mine.safetensors", mine, theta, {})
    monkeypatch.setitem(TABLES, "mine", SMALL[:3])
    with pytest.raises(io.WeightsError, match="policy/heads/03/last/w: missing"):
        learned_opt.controller(tmp_path / "mine.safetensors", num_steps=10)
    monkeypatch.delitem(TABLES, "mine")
    with pytest.raises(io.WeightsError, match="actions: unknown name 'mine'.*full, small"):
        learned_opt.controller(tmp_path / "mine.safetensors", num_steps=10)
