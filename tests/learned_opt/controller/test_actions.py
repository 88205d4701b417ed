"""The table of edits: bounds, "no change", noise of the start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.controller.actions import (
    FULL,
    LARGEST_LOGIT,
    TABLES,
    draw_values,
    edit,
    heads,
    relative,
    settled,
    start_values,
)


def logit(x):
    return np.log(x) - np.log1p(-x)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def test_the_published_heads():
    assert heads(FULL, 3) == (10, 7, 3, 3, 3, 3, 5, 3, 3)
    assert heads(FULL, 0) == (7, 3, 3, 3, 3, 5, 3, 3)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_an_edit_is_a_factor_or_a_shift_of_the_logit(table):
    rng = np.random.default_rng(0)
    for _ in range(5):
        choices = [rng.integers(len(action.edits)) for action in table]
        values = edit(start_values(table), jnp.array(choices), table)
        for action, choice in zip(table, choices, strict=True):
            by = action.edits[choice]
            factor = action.kind == "factor"
            want = action.start * by if factor else sigmoid(logit(action.start) + by)
            np.testing.assert_allclose(values[action.name], want, rtol=1e-5)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_edits_stop_at_every_bound_and_come_back_from_it(table):
    up = jnp.array([np.argmax(action.edits) for action in table])
    down = jnp.array([np.argmin(action.edits) for action in table])
    neutral = jnp.array([action.neutral for action in table])

    @jax.jit
    def go(values, choices):
        return jax.lax.fori_loop(0, 60, lambda _, v: edit(v, choices, table), values)

    highest, lowest = go(start_values(table), up), go(start_values(table), down)
    for action in table:
        low, high = action.lower, action.upper
        if action.kind == "logit":
            low, high = (sigmoid(sign * LARGEST_LOGIT) for sign in (-1, 1))
            assert float(highest[action.name]) < 1.0 and float(lowest[action.name]) > 0.0
        np.testing.assert_allclose(highest[action.name], high, rtol=2e-7)
        np.testing.assert_allclose(lowest[action.name], low, rtol=1e-5)
    below = edit(highest, down, table)
    assert all(below[name] < highest[name] for name in below)
    for values in (highest, lowest, start_values(table)):
        same = edit(values, neutral, table)
        assert all(same[name] == values[name] for name in values)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_starts_are_drawn_from_the_ranges_of_the_table(table):
    draw = jax.jit(jax.vmap(lambda key, noise: draw_values(key, table, noise), (0, None)))
    drawn = draw(jax.random.split(jax.random.key(0), 400), 1.0)
    for action in table:
        x, low, high = np.asarray(drawn[action.name], np.float64), *action.noise
        if action.kind == "factor":
            shift, low, high = np.log(x / action.start), np.log(low), np.log(high)
            inside = (x > action.lower * 1.001) & (x < action.upper * 0.999)
        else:
            shift, inside = logit(x) - logit(action.start), np.ones(len(x), bool)
        assert low - 1e-4 <= shift.min() and shift.max() <= high + 1e-4
        # The share of the lower half is that of a uniform draw, to 4 of its standard deviations.
        assert abs((shift[inside | (shift > 0)] < 0).mean() - 0.5) < 0.15 or not inside.all()
        assert shift.max() - shift.min() > 0.9 * (high - low) or not inside.all()
    still = draw(jax.random.split(jax.random.key(0), 2), 0.0)
    for name, value in start_values(table).items():
        np.testing.assert_allclose(still[name], value, rtol=1e-6)


def test_a_hyperparameter_that_is_not_there_is_left_alone():
    table = TABLES["small"]
    values = {"learning_rate": jnp.float32(1e-3)}
    choices = jnp.array([2, 0, 0, 0, 0, 0])  # the first is the registers'
    kept = settled(choices, values, table)
    np.testing.assert_array_equal(kept, [2, 0, *(action.neutral for action in table[1:])])
    edited = edit(values, kept, table)
    assert list(edited) == ["learning_rate"]
    np.testing.assert_allclose(edited["learning_rate"], 5e-4)
    np.testing.assert_allclose(
        relative(edited, values, table), [0.5 * np.log(0.5), 0, 0, 0, 0], rtol=1e-6
    )
