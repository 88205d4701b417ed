"""What every entry of the table of hand-designed optimizers promises."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt import HAND_DESIGNED, eval_params, inject, load, make
from learned_opt.hand.spec import EXTRAS, HandDesigned

EACH = pytest.mark.parametrize("entry", HAND_DESIGNED.values(), ids=list(HAND_DESIGNED))
PARAMS = {
    "scalar": jnp.float32(0.5),
    "matrix": jnp.linspace(-1.0, 2.0, 12).reshape(4, 3),
    "kernel": jnp.linspace(-2.0, 1.0, 24).reshape(2, 1, 3, 4).astype(jnp.bfloat16),
}


def square(params: Any) -> jax.Array:
    return 0.5 * sum(jnp.sum(jnp.square(p.astype(jnp.float32))) for p in jax.tree.leaves(params))


def asked_for(gradients: Any) -> dict[str, Any]:
    """Every argument an entry may need, and one that none knows."""
    extra = {"value": jnp.float32(1.5), "obj_fn": square, "sampled_gradient": gradients}
    extra |= {"n_items": jnp.int32(8)}
    assert {"params", *extra} == {*EXTRAS}
    return extra | {"unknown": "extra"}


def steps(tx, gradients: Any, params: Any = PARAMS):
    """Three updates in a scan; gradients: leaves with a leading axis of three."""

    def step(carry, gradient):
        params, state = carry
        updates, state = tx.update(gradient, state, params, **asked_for(gradient))
        return (optax.apply_updates(params, updates), state), updates

    return jax.lax.scan(step, (params, tx.init(params)), gradients)


def gradients_like(params: Any, scale: Any = 1.0) -> Any:
    """Of full rank: what a rule makes of rounding is not its own choice."""

    def one(p):
        places = jnp.arange(3 * p.size, dtype=jnp.float32)
        values = jnp.cos(1.0 + places + 0.1 * jnp.square(places))
        return (scale * values).reshape(3, *p.shape).astype(p.dtype)

    return jax.tree.map(one, params)


def as_given(entry: HandDesigned) -> dict[str, jax.Array]:
    """theta with every continuous hyperparameter at its default."""
    names = [name for name in entry.controls if name != "learning_rate"]
    chosen = {name: jnp.float32(entry.defaults[name]) for name in names}
    return entry.init(jax.random.key(0)) | chosen


def alike(x, y):
    rtol = 2e-2 if x.dtype == jnp.bfloat16 else 1e-4
    x, y = (np.asarray(value, np.float32) for value in (x, y))
    np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6)


@EACH
def test_steps_are_finite_the_same_however_built_and_traced_once(entry):
    """By theta, vmapped over it and over gradients and none, and by make."""
    traces = []

    @jax.jit
    def run(thetas, scales):
        traces.append(1)
        each = lambda theta, scale: steps(entry.opt(theta, 10), gradients_like(PARAMS, scale))
        return jax.vmap(each)(thetas, scales), steps(make(entry.name, 10), gradients_like(PARAMS))

    scales = jnp.array([1.0, 1.0, 0.0])
    thetas = jax.tree.map(lambda x: jnp.stack([x, 0.9 * x, x]), as_given(entry))
    several, made = run(thetas, scales)
    run(jax.tree.map(lambda x: 0.5 * x, thetas), scales)
    assert len(traces) == 1
    for leaf in jax.tree.leaves((several, made)):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            assert np.isfinite(np.asarray(leaf, np.float32)).all()
    moved = made[0][0]
    described = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    assert described(moved) == described(PARAMS)
    jax.tree.map(lambda x, y: alike(x[0], y), several[0][0], moved)
    assert not np.array_equal(moved["matrix"], PARAMS["matrix"])


@EACH
def test_injected_hyperparameters_are_traced_and_start_at_the_defaults(entry):
    """What is then made of them is what theta, traced as well, makes of them."""
    tx = inject(entry.name, 10)
    after = jax.eval_shape(lambda: steps(tx, gradients_like(PARAMS))[0][1])
    before = jax.eval_shape(lambda: tx.init(PARAMS))
    assert jax.tree.structure(after) == jax.tree.structure(before)
    given = {"learning_rate": entry.learning_rate} | entry.defaults
    found = tx.init(jnp.zeros((2, 2))).hyperparams
    assert {n: np.float32(given[n]) for n in entry.controls} == found


def parabola(p):
    return jnp.sum(jnp.square(p["bias"] - jnp.array([1.0, -1.0, 2.0]))) + jnp.sum(p["kernel"] ** 2)


def matrix_parabola(p):
    target = jnp.array([[1.0, -2.0, 0.5], [3.0, -1.0, 1.0]])
    return jnp.sum(jnp.square(p["kernel"] - target)) + jnp.sum(p["bias"] ** 2)


def rosenbrock(p):
    x, y, z = p["bias"]
    valley = 100.0 * jnp.square(y - jnp.square(x)) + jnp.square(1.0 - x)
    return valley + z**2 + jnp.sum(p["kernel"] ** 2)


def network(p):
    x = jnp.array([[-1.0, 0.5], [0.3, 1.0], [1.2, -0.7], [0.1, -0.2]])
    hidden = jnp.tanh(x @ p["kernel"] + p["bias"])
    return jnp.mean(jnp.square(hidden @ jnp.array([1.0, -0.5, 0.7]) - jnp.sin(2.0 * x[:, 0])))


START = {
    "kernel": jnp.array([[0.9, 0.3, -0.8], [0.2, -0.4, 0.6]]),
    "bias": jnp.array([-0.5, 1.0, 0.3]),
}
TARGETS = {parabola: 1e-2, matrix_parabola: 1e-2, rosenbrock: 1e-1, network: 2e-1}  # part to reach
LENGTH = 400


@EACH
def test_converges_on_the_four_targets(entry):
    """At the best of seven rates around the default; one program holds them all."""

    def final(target, rate):
        tx = entry.build(rate, LENGTH)
        loss = lambda params: jnp.stack([each(params) for each in TARGETS])[target]

        def step(carry, _):
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params)
            extra = asked_for(gradient) | {"value": value, "obj_fn": loss}
            updates, state = tx.update(gradient, state, params, **extra)
            return (optax.apply_updates(params, updates), state), None

        (params, state), _ = jax.lax.scan(step, (START, tx.init(START)), length=LENGTH)
        return loss(eval_params(state, params)) / loss(START)

    rates = entry.learning_rate * 10.0 ** np.linspace(-1.0, 2.0, 7, dtype=np.float32)
    targets, rates = (x.ravel() for x in np.meshgrid(np.arange(len(TARGETS)), rates))
    found = np.asarray(jax.jit(jax.vmap(final))(targets, rates)).reshape(7, len(TARGETS))
    for (target, part), best in zip(TARGETS.items(), np.nanmin(found, 0), strict=True):
        assert best < part, target.__name__


@EACH
def test_entries_say_what_they_are(entry):
    assert hash(entry) == hash(dataclasses.replace(entry))
    assert entry.source and entry.formula
    assert 0 <= entry.state_bytes() < 100
    for name, range_ in entry.controls.items():
        default = entry.learning_rate if name == "learning_rate" else entry.defaults[name]
        assert range_.low < range_.high and range_.admits(default), name
    json.dumps({name: entry.defaults[name] for name in entry.static})


@EACH
def test_arguments_that_are_missing_or_wrong_are_told(entry, unchecked):
    tx = make(entry.name)
    state = jax.eval_shape(tx.init, PARAMS)
    given = asked_for(PARAMS) | {"params": PARAMS}
    for name in entry.needs:
        rest = {key: value for key, value in given.items() if key != name}
        with pytest.raises(ValueError, match=f"{name}: {entry.name} needs"):
            jax.eval_shape(lambda s, rest=rest: tx.update(PARAMS, s, **rest), state)
    for length in (0, -3, 1.5, float("nan"), True, "10"):
        with pytest.raises(ValueError, match=f"num_steps: {length!r} is not allowed"):
            make(entry.name, num_steps=length)
    for rate in (0.0, -0.1, float("nan"), float("inf"), True, "0.1"):
        with pytest.raises(ValueError, match=f"learning_rate: {rate!r} is not allowed"):
            load(entry.name, 10, learning_rate=rate)
    with pytest.raises(ValueError, match="learning_rat: unknown.*did you mean learning_rate"):
        make(entry.name, learning_rat=0.1)
    with pytest.raises(ValueError, match="optimizer: unknown name"):
        make(f"{entry.name}_x")
