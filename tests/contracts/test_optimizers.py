"""What every learned rule promises, and relative_adam and adam with them."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt import HAND_DESIGNED, LEARNED, eval_params
from learned_opt.base import EvalPoint
from learned_opt.learned.hierarchical_rnn import PRESETS

RULES: dict[str, Any] = {name: HAND_DESIGNED[name] for name in ("adam", "relative_adam")}
RULES |= {kind: LEARNED[kind]() for kind in LEARNED}
RULES |= {f"hierarchical_rnn/{name}": preset for name, preset in PRESETS.items()}
del RULES["hierarchical_rnn"]  # the same as its preset "paper"
OURS = sorted(name for name in RULES if name != "adam")
SHAPES = [(), (3,), (2, 3), (2, 1, 2), (1, 2, 1, 2), (1, 2, 1, 1, 2)]


def theta_of(name: str, seed: int = 0) -> Any:
    return RULES[name].init(jax.random.key(seed))


def tree_of(name: str) -> dict[str, jax.Array]:
    """Ranks 0 to 5 and bfloat16; for our own rules also leaves that are not trained."""
    keys = jax.random.split(jax.random.key(7), len(SHAPES))
    tree = {f"rank{i}": jax.random.normal(keys[i], shape) for i, shape in enumerate(SHAPES)}
    tree["half"] = jnp.arange(1, 5, dtype=jnp.bfloat16)
    if name in OURS:
        tree |= {"count": jnp.arange(3), "flag": jnp.array(True), "none": jnp.zeros((0, 2))}
    return tree


def gradients_like(params: Any, scale: float = 1.0) -> Any:
    return jax.tree.map(
        lambda p: (
            (scale * jnp.cos(1.0 + jnp.arange(p.size, dtype=jnp.float32)))
            .reshape(p.shape)
            .astype(p.dtype)
        ),
        params,
    )


@lru_cache
def stepper(name: str):
    """Two updates from a fresh state, compiled once per rule; counts how often it is traced."""
    traces = []

    @jax.jit
    def two_steps(theta, horizon, params, gradients):
        traces.append(1)
        tx = RULES[name].opt(theta, horizon)
        state = tx.init(params)
        for value in (2.0, 1.0):
            updates, state = tx.update(
                gradients, state, params, value=jnp.float32(value), unknown="extra"
            )
            params = optax.apply_updates(params, updates)
        return updates, state, params

    return two_steps, traces


@pytest.fixture(params=sorted(RULES))
def name(request) -> str:
    return request.param


@pytest.fixture(params=OURS)
def ours(request) -> str:
    return request.param


def all_finite(tree: Any) -> bool:
    return all(bool(jnp.isfinite(leaf.astype(jnp.float32)).all()) for leaf in jax.tree.leaves(tree))


def test_updates_have_the_shapes_and_dtypes_of_the_parameters(name):
    params = tree_of(name)
    updates, _, moved = stepper(name)[0](theta_of(name), 10, params, gradients_like(params))
    # Where the learning rate is an array, optax's own rules leave the cast to apply_updates.
    for tree in (updates, moved) if name in OURS else (moved,):
        assert jax.tree.map(lambda x: (x.shape, x.dtype), tree) == jax.tree.map(
            lambda x: (x.shape, x.dtype), params
        )


def test_leaves_that_are_not_real_numbers_never_move(ours):
    params = tree_of(ours)
    _, _, moved = stepper(ours)[0](theta_of(ours), 10, params, gradients_like(params))
    for leaf in ("count", "flag"):
        np.testing.assert_array_equal(moved[leaf], params[leaf])
    assert not np.array_equal(moved["rank2"], params["rank2"])


def test_integer_leaves_take_the_gradients_jax_gives_them(ours):
    params = {"w": jnp.ones(2), "n": jnp.arange(2)}
    tx = RULES[ours].opt(theta_of(ours), 10)

    @jax.jit
    def step(params, state):
        gradients = jax.grad(lambda p: (p["w"] * p["n"]).sum(), allow_int=True)(params)
        return optax.apply_updates(params, tx.update(gradients, state, params)[0])

    moved = step(params, tx.init(params))
    np.testing.assert_array_equal(moved["n"], params["n"])
    assert moved["n"].dtype == params["n"].dtype


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-8, 1e15, 1e30])
def test_updates_are_finite_for_gradients_of_any_size(name, scale):
    params = tree_of(name)
    gradients = gradients_like(params, scale)
    updates, _, _ = stepper(name)[0](theta_of(name), 10, params, gradients)
    assert all_finite(updates)


def test_non_finite_gradients_do_no_harm(ours):
    params = tree_of(ours)
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        gradients = gradients_like(params)
        gradients["rank2"] = gradients["rank2"].at[0, 1].set(bad)
        updates, state, _ = stepper(ours)[0](theta_of(ours), 10, params, gradients)
        assert all_finite(updates)
        assert all_finite(state)


def test_runs_past_its_horizon(name):
    params = tree_of(name)
    _, _, moved = stepper(name)[0](theta_of(name), 1, params, gradients_like(params))
    assert all_finite(moved)


def test_other_weights_and_horizons_do_not_retrace(name):
    two_steps, traces = stepper(name)
    params = tree_of(name)
    two_steps(theta_of(name), 10, params, gradients_like(params))
    before = len(traces)
    for seed, horizon in ((0, 10), (1, 10), (2, 1000)):
        two_steps(theta_of(name, seed), horizon, params, gradients_like(params, 2.0))
    assert len(traces) == before == 1


def test_state_survives_tree_map_and_keeps_its_types(name):
    params = tree_of(name)
    rule, theta = RULES[name], theta_of(name)
    fresh = jax.eval_shape(lambda theta: rule.opt(theta, 10).init(params), theta)
    _, state, _ = stepper(name)[0](theta, 10, params, gradients_like(params))
    assert jax.tree.structure(jax.tree.map(lambda x: x + 0, state)) == jax.tree.structure(fresh)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(
        lambda x: (x.shape, x.dtype), fresh
    )


def test_state_does_not_share_buffers_with_the_parameters(name):
    params = tree_of(name)
    state = RULES[name].opt(theta_of(name), 10).init(params)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(params) if leaf.size]
    held = [
        leaf.unsafe_buffer_pointer()
        for leaf in jax.tree.leaves(state)
        if isinstance(leaf, jax.Array) and leaf.size and jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    assert not set(pointers) & set(held)


def test_batches_over_weights(name):
    params = {"a": jnp.array([1.0, -2.0])}
    gradients = gradients_like(params)
    thetas = [theta_of(name, seed) for seed in (0, 1)]

    def step(theta):
        tx = RULES[name].opt(theta, 10)
        return tx.update(gradients, tx.init(params), params)[0]["a"]

    batch = jax.jit(jax.vmap(step))(jax.tree.map(lambda *x: jnp.stack(x), *thetas))
    one = jax.jit(step)
    for got, theta in zip(batch, thetas, strict=True):
        np.testing.assert_allclose(got, one(theta), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("params", [{}, (), {"a": {}}])
def test_trees_without_leaves(name, params):
    tx = RULES[name].opt(theta_of(name), 10)
    state = tx.init(params)
    updates, state = tx.update(params, state, params, value=1.0)
    assert updates == params
    assert eval_params(state, params) == params


def test_wrapped_by_optax_it_does_the_same(name):
    """optax.chain, masked, partition, MultiSteps and apply_if_finite, with eval_params."""
    theta, params = theta_of(name), {"a": jnp.array([1.0, -2.0, 0.5]), "b": jnp.array([[3.0]])}
    gradients = gradients_like(params)

    def bare():
        return RULES[name].opt(theta, 10)

    only_a = {"a": True, "b": False}
    groups = {"rule": bare(), "frozen": optax.set_to_zero()}

    @jax.jit
    def run():
        def step(tx, params, gradients, times=1):
            state = tx.init(params)
            for _ in range(times):
                updates, state = tx.update(gradients, state, params, value=jnp.float32(1.0))
            moved = optax.apply_updates(params, updates)
            return updates, eval_params(state, moved)

        part = {"a": params["a"]}
        broken = jax.tree.map(lambda g: g * jnp.nan, gradients)
        return {
            "bare": step(bare(), params, gradients),
            "part": step(bare(), part, {"a": gradients["a"]}),
            "chain": step(optax.chain(optax.identity(), bare()), params, gradients),
            "masked": step(optax.masked(bare(), only_a), params, gradients),
            "partition": step(
                optax.partition(groups, {"a": "rule", "b": "frozen"}), params, gradients
            ),
            "every_second": step(optax.MultiSteps(bare(), 2), params, gradients, times=2),
            "if_finite": step(optax.apply_if_finite(bare(), 3), params, gradients),
            "skipped": step(optax.apply_if_finite(bare(), 3), params, broken)[0],
        }

    def same(got, want):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=1e-6), got, want)

    found = run()
    for wrapper in ("chain", "every_second", "if_finite"):
        same(found[wrapper], found["bare"])
    (updates, point), (own, own_point) = found["masked"], found["part"]
    same(updates, own | {"b": gradients["b"]})
    same(point, own_point | {"b": params["b"] + gradients["b"]})
    updates, point = found["partition"]
    same(updates, own | {"b": jnp.zeros((1, 1))})
    same(point, own_point | {"b": params["b"]})
    assert not any(jnp.any(leaf) for leaf in jax.tree.leaves(found["skipped"]))


def test_eval_params_is_the_identity_without_a_lookahead_point(name):
    params = {"a": jnp.ones(2)}
    state = RULES[name].opt(theta_of(name), 10).init(params)
    marks = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, EvalPoint))
    if not any(isinstance(mark, EvalPoint) for mark in marks):
        assert eval_params(state, params) is params


def test_a_fresh_state_can_be_donated(name):
    params = {"w": jnp.ones((2, 2)), "b": jnp.zeros(2)}
    tx = RULES[name].opt(theta_of(name), 10)
    state = tx.init(params)
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state) if leaf.size]
    own = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(params)]
    assert len(set(buffers + own)) == len(buffers + own)
