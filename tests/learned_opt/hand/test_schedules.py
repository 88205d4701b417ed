"""Schedules of the learning rate at the points where they are known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt import HAND_DESIGNED, make
from learned_opt.hand.schedules import SCHEDULES, parse

AT = {  # of 100 updates, 5 of them warm-up or none: factors after 0, 2, 5, 62, 100 and 900
    "constant": (1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
    "linear": (1.0, 0.98, 0.95, 0.38, 0.0, 0.0),
    "cosine": (1.0, 0.5 + 0.5 * math.cos(0.02 * math.pi), None, None, 0.0, 0.0),
    "exponential": (1.0, 0.01**0.02, 0.01**0.05, 0.01**0.62, 0.01, 0.01),
    "warmup": (0.2, 0.6, 1.0, 1.0, 1.0, 1.0),
    "warmup_linear": (0.2, 0.6, 1.0, 0.4, 0.0, 0.0),
    "warmup_cosine": (0.2, 0.6, 1.0, 0.5 + 0.5 * math.cos(0.6 * math.pi), 0.0, 0.0),
    "warmup_exponential": (0.2, 0.6, 1.0, 0.01**0.6, 0.01, 0.01),
    "wsd": (0.2, 0.6, 1.0, 1.0, 0.0, 0.0),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_factors(name):
    factor = parse({"name": name}, 100) or jnp.ones_like
    if name == "constant":
        assert parse(name, 100) is None
    found = factor(jnp.array([0, 2, 5, 62, 100, 900], jnp.float32))
    known = [(f, x) for f, x in zip(np.asarray(found), AT[name], strict=True) if x is not None]
    np.testing.assert_allclose(*zip(*known, strict=True), rtol=1e-5, atol=1e-7)
    last_fifth = np.asarray(factor(jnp.array([81.0, 90.5])))
    if name == "wsd":
        np.testing.assert_allclose(last_fifth, [1.0, 0.5], rtol=1e-5)


def test_warm_ups_have_three_shapes():
    """`untuned` of arXiv:1910.04209: 2 / (1 - b2) steps, or 1 - exp(-(1 - b2) t)."""
    count = jnp.array([0.0, 9.0, 19.0, 30.0])
    fields = {"name": "warmup", "warmup_steps": "untuned", "b2": 0.9}
    for warmup, expected in {
        "linear": [0.05, 0.5, 1.0, 1.0],
        "quadratic": [0.0025, 0.25, 1.0, 1.0],
        "exponential": -np.expm1(-0.1 * (np.asarray(count) + 1.0)),
    }.items():
        factor = parse(fields | {"warmup": warmup}, 100)
        np.testing.assert_allclose(factor(count), expected, rtol=1e-5)
    ends = parse({"name": "warmup_linear", "warmup_steps": 10, "final": 0.1}, 100)
    np.testing.assert_allclose(ends(jnp.array([4.0, 55.0, 100.0])), [0.5, 0.55, 0.1], rtol=1e-5)


def test_rules_follow_their_schedule_over_any_horizon():
    """A traced one too; the rate of the first update is the warm-up's first, not 0."""

    def steps(horizon):
        entry = HAND_DESIGNED["sgd"].including(momentum=0.0, schedule="warmup_linear")
        tx = entry.build(1.0, horizon)

        def step(state, _):
            updates, state = tx.update(jnp.float32(1.0), state, jnp.float32(0.0))
            return state, updates

        return jax.lax.scan(step, tx.init(jnp.float32(0.0)), length=40)[1]

    found = jax.jit(jax.vmap(steps))(jnp.array([20, 40]))
    np.testing.assert_allclose(found[0, :3], [-1.0, -1.0, -18 / 19], rtol=1e-5)
    np.testing.assert_allclose(found[1, :3], [-0.5, -1.0, -1.0], rtol=1e-5)
    np.testing.assert_allclose(found[0, 20:], 0.0, atol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("cosin", "schedule: .*did you mean cosine"),
        ({"name": "warmup", "warmup_step": 3}, "warmup_step: .*did you mean warmup_steps"),
        ({"name": "warmup", "warmup_steps": -1}, "warmup_steps: -1 is not allowed.*at least 0"),
        ({"name": "warmup", "warmup_steps": "tuned"}, "warmup_steps: 'tuned' is not allowed"),
        ({"name": "warmup", "warmup": "cubic"}, "schedule.warmup: .*'cubic'.*quadratic"),
        ({"name": "linear", "final": -0.1}, "schedule.final: -0.1 is not allowed"),
    ],
)
def test_what_is_not_allowed_is_told(schedule, message):
    with pytest.raises(ValueError, match=message):
        make("adam", 10, schedule=schedule)
