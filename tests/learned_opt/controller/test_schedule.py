"""Recordings replayed: closed forms, the run that was recorded, other optimizers, bad files."""

import json
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.controller.recording import Recording, read, write
from learned_opt.controller.schedule import planned, replay, schedules
from learned_opt.hand.ciao import DEFAULTS, ciao_init, ciao_step

RATES = (1e-3, 4e-3, 1e-3, 2.5e-4)
RATIOS = (0.8, 0.5, 0.2, 0.9)
RECORDING = Recording(
    inner="ciao",
    source="digits",
    num_steps=40,
    start={"learning_rate": 1e-3, "clip_ratio": 0.8, "one_minus_b2": 1e-2, "weight_decay": 1e-2},
    runs={
        "learning_rate": (RATES,),
        "clip_ratio": (RATIOS,),
        "one_minus_b2": ((1e-1, 1e-2, 1e-3, 1e-4),),
        "weight_decay": ((1e-2, 2e-2, 4e-2, 8e-2),),
    },
    logit=("clip_ratio",),
)


def at(schedule, *counts):
    return np.asarray(jax.jit(schedule)(np.array(counts, np.int32)))


def test_a_constant_schedule_jumps_where_the_pauses_were():
    rate = schedules(RECORDING, 10, form="constant")["learning_rate"]
    expected = [RATES[min(count * 4 // 10, 3)] for count in range(14)]
    np.testing.assert_allclose(at(rate, *range(14)), expected, rtol=1e-6)
    short = schedules(RECORDING, 3, form="constant")["learning_rate"]
    np.testing.assert_allclose(at(short, 0, 1, 2, 3), RATES, rtol=1e-6)


def test_a_linear_schedule_passes_through_the_middles_in_logarithms():
    found = schedules(RECORDING, 80)
    middles = at(found["learning_rate"], 10, 30, 50, 70)
    np.testing.assert_allclose(middles, RATES, rtol=1e-5)
    np.testing.assert_allclose(at(found["learning_rate"], 20, 60), [2e-3, 5e-4], rtol=1e-5)
    np.testing.assert_allclose(
        at(found["learning_rate"], 0, 79, 500), [1e-3, 2.5e-4, 2.5e-4], rtol=1e-5
    )
    logit = lambda x: np.log(x / (1 - x))
    between = 1 / (1 + np.exp(-(logit(0.8) + logit(0.5)) / 2))
    np.testing.assert_allclose(at(found["clip_ratio"], 10, 20), [0.8, between], rtol=1e-5)


def test_relative_modes_scale_what_is_given():
    base = {"learning_rate": 0.3, "clip_ratio": 0.5}
    relative = schedules(RECORDING, 4, "relative", "constant", base)
    np.testing.assert_allclose(at(relative["learning_rate"], 0, 1, 3), [0.3, 1.2, 0.075], rtol=1e-5)
    shifted = 1 / (1 + np.exp(np.log(4.0)))  # logit 0 from a start at 0.8, then 0.5
    np.testing.assert_allclose(at(relative["clip_ratio"], 0, 1), [0.5, shifted], rtol=1e-5)
    np.testing.assert_allclose(at(relative["weight_decay"], 0, 3), [1e-2, 8e-2], rtol=1e-5)
    peak = schedules(RECORDING, 4, "peak", "constant", base)
    np.testing.assert_allclose(at(peak["learning_rate"], 0, 1, 3), [0.075, 0.3, 0.01875], rtol=1e-5)
    np.testing.assert_allclose(at(peak["weight_decay"], 0, 3), [1e-2, 8e-2], rtol=1e-5)


def test_a_decay_scaled_beyond_its_end_stops_there():
    """Recorded 10 times its start: 0.4 becomes 1, not 4, and b2 0, not -3."""
    alone = schedules(RECORDING, 4, "relative", "constant", {"one_minus_b2": 0.4})
    np.testing.assert_allclose(at(alone["one_minus_b2"], 0, 1), [1.0, 0.4], rtol=1e-6)
    driven = planned(RECORDING, 4, "adamw", form="constant", names=["one_minus_b2"], b2=0.6)
    np.testing.assert_allclose(at(driven["b2"], 0, 1), [0.0, 0.6], rtol=1e-6)


def test_runs_are_joined_by_their_geometric_mean_and_logits_by_the_arithmetic_one():
    runs = {"learning_rate": ((1e-3, 4e-3), (4e-3, 1e-2)), "clip_ratio": ((0.8, 0.5), (0.2, 0.9))}
    start = {"learning_rate": 1e-3, "clip_ratio": 0.8}
    joined = replace(RECORDING, runs=runs, start=start)
    assert (joined.seeds, joined.pauses) == (2, 2)
    np.testing.assert_allclose(joined.values["learning_rate"], [2e-3, np.sqrt(4e-5)])
    np.testing.assert_allclose(joined.values["clip_ratio"], [0.5, 0.75])


def descend(tx, steps):
    """Parameters after a plain optax loop, compiled."""
    target = jnp.array([[1.0, -2.0, 0.5], [3.0, -1.0, 1.0]])
    loss = lambda p: jnp.sum(jnp.square(p["w"] - target)) + jnp.sum(jnp.square(p["b"] - 1.0))
    params = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), length=steps)[0]


def by_segments():
    """CIAO at the values of a pause for ten steps each, without a schedule."""

    def update(updates, state, params=None, **extra):
        del extra
        now = {n: jnp.float32(x)[state.count // 10] for n, x in RECORDING.values.items()}
        return ciao_step(updates, state, params, DEFAULTS | now)[:2]

    return optax.GradientTransformationExtraArgs(ciao_init, update)


def test_the_replay_of_a_recording_is_the_run_that_was_recorded():
    run = jax.jit(lambda: [descend(tx, 40)[0] for tx in (replayed, by_segments())])
    replayed = replay(RECORDING, 40, form="constant")
    for name, found, wanted in ((n, *(p[n] for p in run())) for n in ("w", "b")):
        np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-7, err_msg=name)
        assert not np.allclose(found, 1.0, atol=1e-3)


def test_in_optax_itself_and_on_another_optimizer():
    """As a schedule that optax injects, and as one of ours that shows its last values."""

    @jax.jit
    def run():
        found = schedules(RECORDING, 60, "peak", base={"learning_rate": 0.1})
        theirs = optax.inject_hyperparams(optax.adamw)(
            learning_rate=found["learning_rate"], weight_decay=1e-4
        )
        ours = replay(RECORDING, 60, "adamw", names=["learning_rate"], learning_rate=0.1)
        return descend(theirs, 60)[0], *descend(ours, 60)

    theirs, ours, state = run()
    np.testing.assert_allclose(ours["w"], theirs["w"], rtol=1e-5)
    np.testing.assert_allclose(state.inner.hyperparams["learning_rate"], 0.1 / 16, rtol=1e-5)
    assert state.count == 60


def test_what_carries_over_by_default():
    """Decays of other rules stay: only those that are asked for follow, in the rule's own words."""
    assert {*planned(RECORDING, 40)} == {*RECORDING.runs}
    assert {*planned(RECORDING, 40, "adamw")} == {"learning_rate", "weight_decay"}
    assert {*planned(RECORDING, 40, "sgd", names=["learning_rate"])} == {"learning_rate"}
    decays = planned(RECORDING, 40, "adamw", form="constant", names=["one_minus_b2"], b2=0.98)
    np.testing.assert_allclose(at(decays["b2"], 0, 10, 30), [0.8, 0.98, 0.9998], rtol=1e-6)


@pytest.mark.parametrize("rule", ["adamw", "ciao"])
def test_a_decay_that_follows_a_recording_makes_no_jump(rule):
    """Under a constant gradient; 1 - b2^t would have the step fall to an eighth."""
    gradient, params = {"w": jnp.full(3, 0.3)}, {"w": jnp.ones(3)}
    fixed = {"eps": 1e-12, "weight_decay": 0.0, "learning_rate": 1e-3}
    fixed |= {"denominator": 2} if rule == "ciao" else {}
    mode = "relative" if rule == "adamw" else "absolute"
    names, form = ["one_minus_b2"], "constant"
    fixed |= {"b2": 0.99} if rule == "adamw" else {}
    tx = replay(RECORDING, 200, rule, mode, form, names, **fixed)

    @jax.jit
    def steps():
        def step(state, _):
            updates, state = tx.update(gradient, state, params)
            return state, updates

        return jax.lax.scan(step, tx.init(params), length=200)[1]

    np.testing.assert_allclose(steps()["w"], -1e-3, rtol=2e-3)


def test_a_file_keeps_everything(tmp_path):
    path = tmp_path / "schedule.json"
    write(RECORDING, path)
    assert read(path) == RECORDING
    assert {*schedules(path, 10)} == {*RECORDING.runs} == {*schedules(str(path), 10)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "not a recording of version 1"),
        ({"sorce": "x"}, "sorce: unknown field; did you mean source"),
        ({"inner": 3}, "inner: 3 is not allowed; it must be a text"),
        ({"num_steps": 0}, "num_steps: 0 is not allowed"),
        ({"runs": {}}, "runs: there must be at least one"),
        ({"runs": {"eps": [1e-3]}}, "runs.eps: must be a list of runs"),
        ({"start": {"eps": 1.0}}, "start: .'eps'. is not allowed"),
        ({"logit": None}, "logit: None is not allowed; it must be a list"),
        ({"logit": "clip_ratio"}, "logit: 'clip_ratio' is not allowed; it must be a list"),
        ({"runs": {"x": [[10**400]]}, "start": {"x": 0.5}, "logit": []}, "runs.x: 10+ is not"),
        ({"logit": ["clip"]}, "logit: unknown name 'clip'; did you mean clip_ratio"),
        ({"runs": {"eps": [[1e-3], [1.0, 2.0]]}, "start": {"eps": 1}, "logit": []}, "as many runs"),
        ({"runs": {"eps": [[-1.0]]}, "start": {"eps": 1.0}, "logit": []}, "runs.eps: -1.0 is not"),
        ({"runs": {"x": [[1.5]]}, "start": {"x": 0.5}, "logit": ["x"]}, "above 0 and below 1"),
    ],
)
def test_files_that_do_not_fit_are_told(tmp_path, change, message, unchecked):
    path = tmp_path / "schedule.json"
    write(RECORDING, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=f"schedule.json: .*{message}"):
        read(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": "adamv"}, "optimizer: unknown name 'adamv'; did you mean adam"),
        ({"mode": "relativ"}, "mode: unknown name 'relativ'; did you mean relative"),
        ({"form": "cubic"}, "form: unknown name 'cubic'"),
        ({"num_steps": 0}, "num_steps: 0 is not allowed"),
        ({"names": ["eps"]}, "names: unknown name 'eps'"),
        ({"optimizer": "adamw", "names": ["clip_ratio"]}, "names: adamw has no clip_ratio"),
        ({"optimizer": "adamw", "mode": "absolute"}, "mode: absolute is not allowed for adamw"),
        ({"optimizer": "lamb", "names": ["one_minus_b2"]}, "one_minus_b2 is not allowed for lamb"),
        (
            {"optimizer": "adamw", "names": ["one_minus_b2"], "debias": "count"},
            "one_minus_b2 is not allowed for adamw",
        ),
        ({"learning_rate": 1.0}, "learning_rate: follows the recording"),
        (
            {"optimizer": "adamw", "weight_decay": {"kind": "cautious", "value": 1.0}},
            "weight_decay: .* is not allowed; it must be a number",
        ),
    ],
)
def test_what_cannot_be_replayed_is_told(fields, message, unchecked):
    with pytest.raises(ValueError, match=message):
        replay(RECORDING, **{"num_steps": 40} | fields)


@pytest.mark.parametrize(
    ("mode", "base", "message"),
    [
        ("relative", {"learning_rat": 1.0}, "base: unknown name .*did you mean learning_rate"),
        ("absolute", {"learning_rate": 1.0}, "base: learning_rate has none in mode absolute"),
        ("relative", {"clip_ratio": 1.5}, "base.clip_ratio: 1.5 .* above 0 and below 1"),
        ("peak", {"learning_rate": float("nan")}, "base.learning_rate: nan .* at least 0"),
        ("peak", {"learning_rate": "fast"}, "base.learning_rate: 'fast' .* a finite number"),
    ],
)
def test_a_base_that_would_be_ignored_or_wrong_is_told(mode, base, message, unchecked):
    with pytest.raises(ValueError, match=message):
        schedules(RECORDING, 40, mode, base=base)


def test_hyperparameters_are_checked_before_values_are_planned(unchecked):
    with pytest.raises(ValueError, match="adamw.lerning_rate: unknown .* did you mean learn"):
        planned(RECORDING, 40, "adamw", lerning_rate=1.0)
    with pytest.raises(ValueError, match="adamw.learning_rate: -1.0 is not allowed"):
        planned(RECORDING, 40, "adamw", learning_rate=-1.0)
    with pytest.raises(ValueError, match="clip_ratio: 1.5 is not allowed"):
        replay(RECORDING, 40, mode="relative", clip_ratio=1.5)


def test_what_stays_is_as_made():
    """A hyperparameter that does not follow keeps the value it is given."""
    tx = replay(RECORDING, 40, names=["learning_rate"], clip_ratio=0.3, weight_decay=0.0)
    state: Any = tx.init({"w": jnp.ones(2)})
    held = state.inner.hyperparams
    assert (held["clip_ratio"], held["weight_decay"]) == (np.float32(0.3), 0.0)
