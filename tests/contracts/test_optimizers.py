"""What every learned rule promises, and relative_adam and adam with them.

One program a rule, of so many steps as it is told, stands behind most tests: compiling is what they
cost. A new learned rule enters through SMALL.
"""

import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt import HAND_DESIGNED, LEARNED, eval_params
from learned_opt.base import EvalPoint

# kind, or kind/preset, of every learned rule -> what its instance here has other than by default.
SMALL: dict[str, dict[str, Any]] = {
    "anchored_mlp": {"hidden": 2, "scheduler_hidden": 2},
    "anchored_soap": {"hidden": 2},
    "celo": {"hidden": 2, "units": 2},
    "celo_adam": {"hidden": 2},
    "celo2/base": {"hidden": 2},
    "celo2/orthogonal": {"hidden": 2},
    "coordinatewise_lstm": {"layers": (3, 2)},
    "coordinatewise_rnn": {"layers": (3, 2)},
    "feed_forward/repaired": {"hidden": 9},
    "hierarchical_rnn/nominal": {},
    "hierarchical_rnn/paper": {},
    "hierarchical_rnn/paper_attention": {},
    "lhopt": {"dense": 4, "lstm": 3, "trunk": 4},
    "mlp": {"hidden": 9},
    "rnnprop": {"dense": 2, "layers": (3, 2)},
    "small_fc": {"hidden": 2},
    "star/steady": {"hidden": 9},
    "tensor_lstm/nominal": {"hidden": 2, "lstm_hidden": 2},
    "tensor_lstm/paper": {"hidden": 2, "lstm_hidden": 2},
    "velo/small": {"hidden": 3, "banks": 2, "units": 2},
}


def instance(name: str) -> Any:
    if name in HAND_DESIGNED:
        return HAND_DESIGNED[name]
    kind, _, preset = name.partition("/")
    rule = LEARNED[kind]
    return replace(
        sys.modules[rule.__module__].PRESETS[preset] if preset else rule(), **SMALL[name]
    )


OURS = sorted([*SMALL, "relative_adam"])
NAMES = ["adam", *OURS]
SHAPES = [(), (3,), (2, 3), (2, 1, 2), (1, 2, 1, 2), (1, 2, 1, 1, 2)]
LONG = 3000


@lru_cache
def drawing(name: str):
    """Random weights: where a rule starts, and of size 0.05 where that is zero."""

    @jax.jit
    def draw(key):
        leaves, treedef = jax.tree.flatten(instance(name).init(key))
        noise = 0.05 * jax.random.normal(key, (sum(leaf.size for leaf in leaves),))
        parts = jnp.split(noise, np.cumsum([leaf.size for leaf in leaves])[:-1])
        return treedef.unflatten(
            [leaf + part.reshape(leaf.shape) for leaf, part in zip(leaves, parts, strict=True)]
        )

    return draw


@lru_cache
def theta_of(name: str, seed: int = 0) -> Any:
    return drawing(name)(jax.random.key(seed))


def tree_of(name: str) -> dict[str, Any]:
    """Ranks 0 to 5, axes of size 1, bfloat16; for our own rules also leaves that do not move."""
    draw = np.random.default_rng(7)
    tree = {
        f"rank{i}": jnp.asarray(draw.normal(size=shape), jnp.float32)
        for i, shape in enumerate(SHAPES)
    }
    tree["half"] = jnp.arange(1, 4, dtype=jnp.bfloat16)
    if name in OURS:
        tree |= {"count": jnp.arange(3), "flag": jnp.array(True), "none": jnp.zeros((0, 2))}
        tree["label"] = jnp.arange(2)  # its gradient is what jax.grad gives integers
    return tree


def gradients_like(params: Any, scale: float = 1.0) -> Any:
    return jax.tree.map(
        lambda p: jnp.asarray(
            (scale * np.cos(1.0 + np.arange(p.size))).reshape(p.shape).astype(np.float32)
        ).astype(p.dtype),
        params,
    )


def noise_like(params: Any) -> Any:
    """Gradients of LONG steps: stretches of zeros in all, one entry that dies, one never alive."""
    draw = np.random.default_rng(8)

    def noise(p: jax.Array) -> jax.Array:
        g = draw.normal(size=(LONG, *p.shape))
        g[100:400] = g[1000:2400] = 0.0
        if p.shape == (2, 3):
            g[10:, 0, 0] = g[:, 1, 1] = 0.0
        return jnp.asarray(g.astype(np.float32)).astype(p.dtype)

    return jax.tree.map(noise, params)


@lru_cache
def program(name: str):
    """So many steps from a fresh state, compiled once a rule; notes what each tracing has seen.

    As a loop it also holds every update to the structure and dtypes of the state it began with.
    """
    traced: list[Any] = []

    @jax.jit
    def run(theta, horizon, params, gradients, steps):
        tx = instance(name).opt(theta, horizon)
        fresh = tx.init(params)

        def step(t, carry):
            params, state, _ = carry
            seen = jax.tree.map(lambda g: g[t], gradients)
            if "label" in seen:
                seen["label"] = np.zeros(params["label"].shape, jax.dtypes.float0)
            loss = 2.0 / (1.0 + t)
            validation = jnp.where(t % 5 == 0, loss + 0.1, jnp.nan)  # NaN: none this step
            updates, state = tx.update(
                seen, state, params, value=loss, eval_value=validation, unknown="extra"
            )
            traced.append((dtypes(updates), dtypes(fresh)))
            kept = jax.tree.map(lambda u, p: u.astype(p.dtype), updates, params)
            return optax.apply_updates(params, updates), state, kept

        start = params, fresh, jax.tree.map(jnp.zeros_like, params)
        params, state, updates = jax.lax.fori_loop(0, steps, step, start)
        return updates, state, params

    return run, traced


def run(name: str, gradients: Any = None, steps: int = 2, horizon: int = 10, seed: int = 0):
    """(updates, state, parameters) after `steps` steps of the same gradients."""
    params = tree_of(name)
    gradients = gradients_like(params) if gradients is None else gradients
    repeated = jax.tree.map(lambda g: np.broadcast_to(np.asarray(g), (LONG, *g.shape)), gradients)
    return program(name)[0](theta_of(name, seed), horizon, params, repeated, steps)


def dtypes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


SLOW = {"celo2/orthogonal", "hierarchical_rnn/paper_attention", "tensor_lstm/paper"}


def each(names: Iterable[str]) -> list[Any]:
    """Every rule; those that share all but a few lines with another one are slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in names]


@pytest.fixture(params=each(NAMES))
def name(request) -> str:
    return request.param


@pytest.fixture(params=each(OURS))
def ours(request) -> str:
    return request.param


def all_finite(tree: Any) -> bool:
    return all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in jax.tree.leaves(tree))


def test_every_learned_rule_is_here():
    assert {name.partition("/")[0] for name in SMALL} == set(LEARNED)


def test_updates_have_the_shapes_and_dtypes_of_the_parameters(name):
    *_, moved = run(name)
    assert dtypes(moved) == dtypes(tree_of(name))
    if name in OURS:  # where the learning rate is an array, optax's own leave it to apply_updates
        assert program(name)[1][0][0] == dtypes(tree_of(name))


def test_the_state_is_float32_whatever_the_parameters_are(ours):
    run(ours)
    kinds = {x.dtype for x in jax.tree.leaves(program(ours)[1][0][1])}
    assert {kind for kind in kinds if jnp.issubdtype(kind, jnp.floating)} <= {jnp.dtype("float32")}


def test_the_first_step_moves_only_what_is_trained(ours):
    params = tree_of(ours)
    updates, state, moved = run(ours, steps=1)
    assert all_finite(updates) and all_finite(state)
    for leaf in ("count", "flag", "label"):
        np.testing.assert_array_equal(moved[leaf], params[leaf])
    for rank in range(len(SHAPES)):
        assert not np.array_equal(moved[f"rank{rank}"], params[f"rank{rank}"])


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-8, 1e15, 1e30])
def test_updates_are_finite_for_gradients_of_any_size(name, scale):
    assert all_finite(run(name, gradients_like(tree_of(name), scale))[0])


def test_non_finite_gradients_do_no_harm(ours):
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        gradients = gradients_like(tree_of(ours))
        gradients["rank2"] = gradients["rank2"].at[0, 1].set(bad)
        updates, state, _ = run(ours, gradients)
        assert all_finite(updates) and all_finite(state)


def test_thousands_of_steps_stay_finite(ours):
    """On random weights and random gradients that vanish for long, past the horizon too."""
    params = tree_of(ours)
    theta, gradients = theta_of(ours, seed=3), noise_like(params)
    assert all_finite(program(ours)[0](theta, LONG // 2, params, gradients, LONG))


def test_runs_past_its_horizon(name):
    assert all_finite(run(name, horizon=1))


def test_other_weights_and_horizons_do_not_retrace(name):
    run(name)
    before = len(program(name)[1])
    for seed, horizon in ((0, 10), (1, 10), (2, 1000)):
        run(name, horizon=horizon, seed=seed)
    assert len(program(name)[1]) == before


SMALL_TREE = {"a": jnp.array([1.0, -2.0, 0.5])}


@lru_cache
def single(name: str):
    """One update of SMALL_TREE, as a function of the weights."""
    gradients = gradients_like(SMALL_TREE)

    def step(theta):
        tx = instance(name).opt(theta, 10)
        updates, state = tx.update(gradients, tx.init(SMALL_TREE), SMALL_TREE, value=1.0)
        return updates, eval_params(state, optax.apply_updates(SMALL_TREE, updates))

    return step, jax.jit(step)


def test_batches_over_weights(name):
    step, one = single(name)
    thetas = [theta_of(name, seed) for seed in (0, 1)]
    batch = jax.jit(jax.vmap(step))(jax.tree.map(lambda *x: np.stack(x), *thetas))
    for i, theta in enumerate(thetas):
        for got, want in zip(jax.tree.leaves(batch), jax.tree.leaves(one(theta)), strict=True):
            np.testing.assert_allclose(got[i], want, rtol=1e-4, atol=1e-7)


def test_trees_without_leaves(name):
    tx = instance(name).opt(theta_of(name), 10)
    for params in ({}, (), {"a": {}}):
        state = jax.eval_shape(tx.init, params)
        updates, state = jax.eval_shape(lambda s, p: tx.update(p, s, p, value=1.0), state, params)
        assert updates == params
        assert eval_params(state, params) == params


def test_wrapped_by_optax_it_does_the_same(name):
    """optax.partition, which masks, apply_if_finite, MultiSteps and chain, one in the other."""
    theta = theta_of(name)
    inner = optax.chain(optax.identity(), instance(name).opt(theta, 10))
    second: Any = optax.MultiSteps(inner, 2)  # its gradient_transformation() would lose value=
    inner = optax.GradientTransformationExtraArgs(second.init, second.update)
    inner = optax.apply_if_finite(inner, 3)
    groups: dict[Any, Any] = {"rule": inner, "frozen": optax.set_to_zero()}
    tx = optax.partition(groups, {"a": "rule", "b": "frozen"})
    start = SMALL_TREE | {"b": jnp.array([[3.0]])}

    @jax.jit
    def step(gradients, state, params):
        updates, state = tx.update(gradients, state, params, value=1.0)
        params = optax.apply_updates(params, updates)
        return updates, state, params, eval_params(state, params)

    gradients = gradients_like(start)
    state, params = tx.init(start), start
    # A step with NaN is left out, the next is half of one, then comes the step.
    for seen in (jax.tree.map(lambda g: g * jnp.nan, gradients), gradients):
        updates, state, params, _ = step(seen, state, params)
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(updates))
    updates, _, _, point = step(gradients, state, params)
    own, own_point = single(name)[1](theta)
    for got, want in (
        (updates, own | {"b": jnp.zeros((1, 1))}),
        (point, own_point | {"b": start["b"]}),
    ):
        for leaf in start:
            np.testing.assert_allclose(got[leaf], want[leaf], rtol=2e-4, atol=1e-6)


UPDATE_RULES = each(name for name in SMALL if name != "lhopt")


@pytest.mark.parametrize("name", UPDATE_RULES)
def test_numbers_of_python_are_parameters_too(name):
    params, gradients = {"a": 1.0}, {"a": jnp.float32(0.5)}
    tx = instance(name).opt(theta_of(name), 10)
    updates = jax.eval_shape(lambda: tx.update(gradients, tx.init(params), params, value=1.0)[0])
    assert updates == {"a": jax.ShapeDtypeStruct((), jnp.float32)}


@pytest.mark.parametrize("name", UPDATE_RULES)
def test_gradients_unlike_the_parameters_are_refused(name):
    """Equal in number of scalars, or one short because it is None, as filtered gradients are."""
    params = {"a": jnp.ones((2, 3)), "n": jnp.int32(1), "z": jnp.ones((2, 3))}
    tx = instance(name).opt(theta_of(name), 10)
    for unlike in ({"a": jnp.ones((3, 2))}, {"n": None}):
        with pytest.raises(ValueError):
            jax.eval_shape(
                lambda g: tx.update(g, tx.init(params), params, value=1.0), params | unlike
            )


READ_LOSSES = [
    "anchored_mlp",
    "anchored_soap",
    "celo",
    "celo_adam",
    "lhopt",
    "tensor_lstm/nominal",
    "velo/small",
]


@pytest.mark.parametrize("name", READ_LOSSES)
def test_the_loss_must_be_one_number(name):
    tx = instance(name).opt(theta_of(name), 10)
    with pytest.raises(ValueError, match=r"value: shape \(3,\) is not allowed"):
        jax.eval_shape(
            lambda p: tx.update(p, tx.init(p), p, value=jnp.ones(3), eval_value=1.0), SMALL_TREE
        )


def test_a_fresh_state_is_of_strong_types_and_shares_no_buffer(name):
    params = {"w": jnp.ones((2, 2)), "b": jnp.float32(0.0)}
    state = instance(name).opt(theta_of(name), 10).init(params)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))  # it would compile twice
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state) if leaf.size]
    own = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(params)]
    assert len(set(buffers + own)) == len(buffers + own)
    marks = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, EvalPoint))
    if not any(isinstance(mark, EvalPoint) for mark in marks):
        assert eval_params(state, params) is params
