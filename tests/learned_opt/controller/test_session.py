"""Whole runs under a controller, with choices that are given."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt import make
from learned_opt.controller import session as sessions
from learned_opt.controller.actions import draw_values, start_values
from learned_opt.controller.session import Control

FULL = Control("full", registers=2)
X = jax.random.normal(jax.random.key(0), (32, 3))
Y = jnp.sin(3.0 * X[:, :2])
PAUSES, STEPS = 4, 8
NOOP = jnp.array([0, *(action.neutral for action in FULL.table)])
SAVE, LOAD, SWAP = (NOOP.at[0].set(i) for i in (4, 5, 6))  # of the second register


def loss(params, scale=1.0):
    return scale * jnp.mean(jnp.square(jnp.tanh(X @ params["w"] + params["b"]) - Y))


def start(key):
    return {"w": jax.random.normal(key, (3, 2)), "b": jnp.zeros(2)}


@jax.jit
def run(key, values, choices, scale, evaluated):
    """An episode: what every pause saw, and the parameters and session before and after its act.

    choices: [pauses, heads]. scale: of the loss. evaluated: [pauses], what eval losses are times.
    """
    params = start(key)
    session = sessions.begin(FULL, params, values, PAUSES)

    def pause(carry, given):
        params, session, train_loss = carry
        choices, factor = given
        eval_loss = factor * loss(params, scale)
        session, seen = sessions.observe(FULL, session, params, train_loss, eval_loss)
        before = params, session
        params, session = sessions.act(FULL, session, params, choices)

        def step(carry, _):
            params, session = carry
            value, gradients = jax.value_and_grad(loss)(params, scale)
            updates, session = sessions.inner_step(FULL, session, gradients, params)
            return (optax.apply_updates(params, updates), session), value

        after = params, session
        (params, session), losses = jax.lax.scan(step, after, None, STEPS)
        return (params, session, losses.mean()), (seen, before, after)

    carry = params, session, loss(params, scale)
    (params, session, _), told = jax.lax.scan(pause, carry, (choices, evaluated))
    return params, session, told


def episode(choices=(NOOP,) * PAUSES, values=None, scale=1.0, evaluated=(1.0,) * PAUSES, seed=0):
    values = start_values(FULL.table) if values is None else values
    key = jax.random.key(seed)
    return run(key, values, jnp.stack(choices), jnp.float32(scale), jnp.array(evaluated))


def at(tree, pause):
    return jax.tree.map(lambda x: x[pause], tree)


def same(a, b):
    return all(
        np.array_equal(x, y, equal_nan=True)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_choosing_nothing_is_ciao():
    params, session, _ = episode()
    chosen: Any = {n: float(v) for n, v in start_values(FULL.table).items()}
    tx = make("ciao", **chosen)

    @jax.jit
    def plain(params):
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, tx.init(params)), None, PAUSES * STEPS)[0][0]

    want = plain(start(jax.random.key(0)))
    for name in want:
        np.testing.assert_allclose(params[name], want[name], rtol=1e-5, atol=1e-7)
    assert int(session.pause) == PAUSES


def test_observations_do_not_change_with_the_unit_of_the_loss():
    values = start_values(FULL.table) | {"eps": jnp.float32(1e-12)}
    plain, scaled = (np.asarray(episode(values=values, scale=s)[2][0]) for s in (1.0, 1000.0))
    # What hardly changes shows its rounding in the history, and there only.
    np.testing.assert_allclose(scaled, plain, atol=5e-3)
    for name in ("statistics", "update_ratio", "norm_ratio", "loss_ratio"):
        first, end = FULL.layout[name].start, FULL.layout[name].stop
        end = end if name == "statistics" else end - len(FULL.end_weights)
        np.testing.assert_allclose(scaled[:, first:end], plain[:, first:end], atol=1e-3)
    assert np.abs(plain[1:, FULL.layout["statistics"]]).min() > 0


def test_the_published_observation_has_166_numbers():
    control = Control("full", registers=3)
    assert control.features == 166
    assert sum(control.heads) == 40


def test_what_is_hidden_is_zero_and_the_rest_unchanged():
    everything, narrow = Control(), Control(sees=("progress", "loss_ratio"))
    observation = 1.0 + jnp.arange(everything.features, dtype=jnp.float32)
    shown = narrow.show(observation)
    for part, where in everything.layout.items():
        expected = (
            observation[where] if part in narrow.sees else jnp.zeros(observation[where].shape)
        )
        np.testing.assert_array_equal(shown[where], expected)
    assert everything.show(observation) is observation


def test_load_restores_what_was_saved_bit_for_bit_and_time_goes_on():
    rate = NOOP.at[1].set(0)
    _, _, (_, before, after) = episode((NOOP, SAVE, rate, LOAD))
    saved, at_load, loaded = at(before, 1), at(before, 3), at(after, 3)
    assert same(loaded[0], saved[0]) and same(loaded[1].inner, saved[1].inner)
    assert not same(at_load[0], saved[0])
    assert int(loaded[1].pause) == 4 and bool(loaded[1].restored)
    assert float(loaded[1].values["learning_rate"]) == pytest.approx(5e-4)
    assert same(loaded[1].history, at_load[1].history)
    assert float(loaded[1].anchor.progress) == 0.25


def test_swap_exchanges_and_the_first_load_is_the_start():
    _, _, (_, before, after) = episode((NOOP, SWAP, NOOP, SWAP))
    assert same(at(after, 1)[0], at(before, 0)[0])
    assert same(at(after, 3)[0], at(before, 1)[0])
    assert same(at(after, 3)[1].inner, at(before, 1)[1].inner)
    assert same(at(after, 3)[1].registers[1].inner, at(before, 3)[1].inner)


def test_an_empty_register_is_not_loaded_and_losses_that_are_not_finite_are_not_saved():
    nan = float("nan")
    # The loss of the start is not known, so there is nothing to go back to.
    _, _, (_, before, after) = episode((NOOP, LOAD, SWAP, NOOP), evaluated=(nan, 1.0, 1.0, 1.0))
    for pause in (1, 2):
        assert same(at(after, pause)[0], at(before, pause)[0])
        assert not bool(at(after, pause)[1].restored)
    _, _, (_, before, after) = episode((NOOP, SAVE, NOOP, NOOP), evaluated=(1.0, nan, 1.0, 1.0))
    assert same(at(after, 1)[1].registers, at(before, 1)[1].registers)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e9])
def test_a_run_that_diverged_goes_back_a_pause(bad):
    slower = NOOP.at[1].set(0)
    _, _, (seen, before, after) = episode((NOOP, NOOP, slower, NOOP), evaluated=(1.0, 1.0, bad, 1))
    assert bool(at(before, 2)[1].diverged) and not bool(at(before, 3)[1].diverged)
    assert same(at(after, 2)[0], at(after, 1)[0])
    assert same(at(after, 2)[1].inner, at(after, 1)[1].inner)
    assert float(at(after, 2)[1].values["learning_rate"]) == pytest.approx(5e-4)
    assert np.isfinite(seen).all()
    flags = seen[:, FULL.layout["eval_loss"]][:, :2]
    np.testing.assert_array_equal(flags[2], [np.isnan(bad), np.isinf(bad)])
    if not np.isfinite(bad):
        np.testing.assert_array_equal(seen[2, FULL.layout["eval_loss"]][2:], 1.0)


@pytest.mark.slow
def test_runs_side_by_side_are_the_runs_alone_and_nan_stays_in_its_own():
    keys = jax.random.split(jax.random.key(3), 3)
    values = jax.vmap(partial(draw_values, table=FULL.table))(keys)
    sizes = jnp.array(FULL.heads)
    choices = jax.random.randint(jax.random.key(4), (3, PAUSES, len(sizes)), 0, sizes)
    scales = jnp.ones(3)
    fine = jnp.ones((3, PAUSES))
    batch = jax.vmap(run)
    plain = batch(keys, values, choices, scales, fine)
    for i in range(3):
        alone = run(keys[i], at(values, i), choices[i], scales[i], fine[i])
        for got, want in zip(
            jax.tree.leaves(at(plain[0], i)), jax.tree.leaves(alone[0]), strict=True
        ):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
        for got, want in zip(jax.tree.leaves(at(plain, i)), jax.tree.leaves(alone), strict=True):
            if jnp.issubdtype(want.dtype, jnp.floating):
                np.testing.assert_allclose(got, want, rtol=5e-3, atol=5e-3)
            else:
                np.testing.assert_array_equal(got, want)
    for poisoned in (
        batch(keys, values, choices, scales.at[1].set(jnp.nan), fine),
        batch(keys, values, choices, scales, fine.at[1, 2].set(jnp.nan)),
    ):
        for i in (0, 2):
            assert same(at(poisoned, i), at(plain, i))
        assert np.isfinite(poisoned[2][0]).all()


def test_the_question_whether_to_measure_is_answered_every_four_steps():
    params = start(jax.random.key(0))

    @jax.jit
    def go():
        session = sessions.begin(FULL, params, start_values(FULL.table), PAUSES)
        session, _ = sessions.observe(FULL, session, params, 1.0, 1.0)
        _, session = sessions.act(FULL, session, params, NOOP)

        def step(session, _):
            gradients = jax.grad(loss)(params)
            told = sessions.inner_step(FULL, session, gradients, params, measured=True)
            left = sessions.inner_step(FULL, session, gradients, params, measured=False)
            _, session = sessions.inner_step(FULL, session, gradients, params)
            return session, (session.sums, told[1].sums, left[1].sums)

        return jax.lax.scan(step, session, None, 9)[1]

    asked, told, left = go()
    np.testing.assert_array_equal(asked.steps, [1, 1, 1, 1, 2, 2, 2, 2, 3])
    for i in range(9):
        want = at(told if i % 4 == 0 else left, i)
        np.testing.assert_array_equal(asked.steps[i], want.steps)
        np.testing.assert_allclose(asked.total[i], want.total, rtol=1e-5, atol=1e-5)
    assert np.isfinite(asked.total).all()


def test_bad_input(unchecked):
    params = start(jax.random.key(0))
    with pytest.raises(ValueError, match="learning_rat.*did you mean learning_rate"):
        sessions.begin(FULL, params, {"learning_rat": jnp.float32(1.0)}, 4)
    with pytest.raises(ValueError, match="actions: unknown name 'smal'; did you mean small"):
        Control("smal")
    with pytest.raises(ValueError, match="registers: -1"):
        Control(registers=-1)
    with pytest.raises(ValueError, match="end_weights"):
        Control(end_weights=(0.0,))
    with pytest.raises(ValueError, match="sees: unknown name 'progres'; did you mean progress"):
        Control(sees=("progres",))
