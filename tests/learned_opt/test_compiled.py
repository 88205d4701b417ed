"""Updates outside jit: one compiled program, and the same numbers as in it."""

from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.compiled import compiled
from tests.contracts.test_optimizers import SMALL, instance, theta_of

PARAMS = {"a": jnp.ones((4, 4)), "b": 0.5 * jnp.ones((4, 4)), "c": jnp.ones(3)}
GRADIENTS = jax.tree.map(lambda p: 0.3 * p, PARAMS)
# Rules that compiled a loop, a branch or a decomposition anew at every update, and two others.
QUICK = ["adam", "relative_soap", "soap", "radam", "relative_adam", "anchored_mlp", "celo_adam"]


def square(params):
    return 0.5 * sum(jnp.sum(jnp.square(p)) for p in jax.tree.leaves(params))


@contextmanager
def compilations():
    """The events of compiling, as they come."""
    found = []

    def listen(event, duration, **about):
        if "backend_compile" in event:
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def loaded(name, folder):
    if name in learned_opt.HAND_DESIGNED:
        return learned_opt.load(name, num_steps=10)
    path = folder / "rule.safetensors"
    learned_opt.write(path, instance(name), theta_of(name), {})
    return learned_opt.load(path, num_steps=10)


def test_compilations_are_noticed():
    with compilations() as found:
        jax.jit(lambda x: x + 1.0)(1.0)
    assert found


# sophia_h: optax compiles a branch around obj_fn, which may be another function at every update.
@pytest.mark.parametrize(
    "name",
    [
        *QUICK,
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in [*learned_opt.HAND_DESIGNED, *SMALL]
            if name not in [*QUICK, "sophia_h"]
        ),
    ],
)
def test_nothing_is_compiled_after_the_first_update(name, tmp_path):
    tx = loaded(name, tmp_path)
    losses = {"value": jnp.float32(1.0), "eval_value": jnp.float32(1.0)}
    losses |= {"sampled_gradient": GRADIENTS} if name == "sophia_g" else {}
    losses |= {"obj_fn": square} if name == "sam" else {}
    state = tx.init(PARAMS)
    _, state = tx.update(GRADIENTS, state, PARAMS, **losses)
    with compilations() as found:
        for _ in range(3):
            _, state = tx.update(GRADIENTS, state, PARAMS, **losses)
    assert not found


def test_nothing_is_compiled_after_the_first_update_with_steered_hyperparameters():
    tx = learned_opt.inject("soap")
    state = tx.init(PARAMS)
    _, state = tx.update(GRADIENTS, state, PARAMS)
    with compilations() as found:
        for _ in range(2):
            _, state = tx.update(GRADIENTS, state, PARAMS)
    assert not found


def counted():
    """A rule that notes what it is called with: the step is that of sgd at the rate `rate`."""
    calls = []

    def update(updates, state, params=None, **extra):
        calls.append(extra)
        rate = jnp.asarray(extra.get("rate", 1.0))
        return jax.tree.map(lambda g: -rate * g, updates), state + 1

    return optax.GradientTransformationExtraArgs(lambda params: jnp.zeros(()), update), calls


def test_the_update_is_traced_once_for_each_structure():
    tx, calls = counted()
    tx = compiled(tx)
    state = tx.init(PARAMS)
    for i in range(4):
        updates, state = tx.update(GRADIENTS, state, PARAMS, rate=0.5 + i)
    np.testing.assert_allclose(updates["c"], -3.5 * GRADIENTS["c"])
    assert float(state) == 4.0 and len(calls) == 1
    tx.update(GRADIENTS, state, PARAMS)
    assert len(calls) == 2


@pytest.mark.parametrize("extra", [{"obj_fn": square}, {"unknown": "text"}])
def test_what_is_no_array_reaches_the_rule_as_it_is(extra):
    tx, calls = counted()
    compiled(tx).update(GRADIENTS, jnp.zeros(()), PARAMS, rate=2.0, **extra)
    assert calls == [{"rate": 2.0} | extra]


def test_derivatives_and_batches_pass_through():
    tx, _ = counted()
    tx = compiled(tx)

    def moved(rate):
        updates, _ = tx.update(GRADIENTS, jnp.zeros(()), PARAMS, rate=rate)
        return updates["c"][0]

    assert jax.grad(moved)(2.0) == pytest.approx(-0.3)
    np.testing.assert_allclose(jax.vmap(moved)(jnp.arange(3.0)), [0.0, -0.3, -0.6], atol=1e-6)
