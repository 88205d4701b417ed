"""The small per-parameter network against its published numbers and a second implementation."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.per_parameter import AdafactorOracle, network

from learned_opt.learned.parts.features import factored_axes, offset_decays, time_features
from learned_opt.learned.parts.scalar_network import CHUNK
from learned_opt.learned.small_fc import PRESETS, SmallFC

SHAPES = [(), (3, 3), (4, 3), (3, 4), (5, 2, 4)]
UNROLLED = 2  # hidden units, few enough for the form that is one loop


def count(rule: SmallFC) -> int:
    theta = jax.eval_shape(rule.init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(theta))


def tree(seed: int, scale: float = 1.0) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    return [scale * jax.random.normal(key, shape) for key, shape in zip(keys, SHAPES, strict=True)]


def weights(rule: SmallFC, seed: int = 0, shift: float = 0.0):
    """Weights with biases and decay offsets that are not 0, and magnitudes that matter."""
    theta = rule.init(jax.random.key(seed))
    keys = jax.random.split(jax.random.key(seed + 1), len(theta))
    theta = {
        name: leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for key, (name, leaf) in zip(keys, theta.items(), strict=True)
    }
    return theta | {"b2": theta["b2"] + shift}


@lru_cache
def stepper(rule: SmallFC, **start):
    @jax.jit
    def step(theta, gradients, state, params):
        updates, state = rule.opt(theta, 100, **start).update(gradients, state, params)
        return updates, state, optax.apply_updates(params, updates)

    return step


def run(rule: SmallFC, theta, params, gradients, **start):
    state, seen = rule.opt(theta, 100).init(params), []
    for gradient in gradients:
        updates, state, params = stepper(rule, **start)(theta, gradient, state, params)
        seen.append(updates)
    return seen, state


class OneTensor(AdafactorOracle):
    """One tensor under the rule, in NumPy float64."""

    def __init__(self, rule: SmallFC, theta, param):
        super().__init__(theta, param)
        self.rule = rule

    def step(self, gradient):
        x = network(self.w, self.features(gradient), self.t)
        step = self.rule.step_mult * x[..., 0] * np.exp(self.rule.exp_mult * x[..., 1])
        self.p, self.t = self.p - step, self.t + 1
        return -step


def test_weight_counts():
    assert count(SmallFC()) == count(PRESETS["hidden_4"]) == 197
    assert count(PRESETS["hidden_32"]) == 2409


@pytest.mark.parametrize("hidden", [UNROLLED, 32])
@pytest.mark.parametrize("scale", [1e-4, 600.0])
def test_two_steps_agree_with_the_second_implementation(hidden, scale):
    rule = SmallFC(hidden=hidden, exp_mult=0.3, step_mult=0.1)
    theta, params = weights(rule, hidden), tree(0)
    gradients = [tree(1, scale), tree(2, scale)]
    seen, _ = run(rule, theta, params, gradients)
    for i, param in enumerate(params):
        other = OneTensor(rule, theta, param)
        for updates, gradient in zip(seen, gradients, strict=True):
            want = other.step(gradient[i]).reshape(param.shape)
            np.testing.assert_allclose(updates[i], want, rtol=1e-5, atol=1e-5)


def test_step_and_exponent_multipliers():
    """With only b2 left, a parameter moves by -step_mult b2[0] exp(exp_mult b2[1])."""
    rule = SmallFC(UNROLLED, exp_mult=0.5, step_mult=0.02)
    theta = jax.tree.map(jnp.zeros_like, rule.init(jax.random.key(0)))
    theta = theta | {"b2": jnp.array([3.0, -2.0])}
    params = {"w": jnp.ones((2, 2))}
    (updates,), _ = run(rule, theta, params, [params])
    np.testing.assert_allclose(updates["w"], -0.02 * 3.0 * np.exp(-1.0), rtol=1e-6)
    (updates,), _ = run(rule, theta, params, [params], learning_rate=0.5)
    np.testing.assert_allclose(updates["w"], -0.5 * 3.0 * np.exp(-1.0), rtol=1e-6)


def test_decays_move_with_their_offsets():
    start = (0.9, 0.999)
    np.testing.assert_allclose(offset_decays(start, jnp.zeros(2)), start, rtol=1e-6)
    np.testing.assert_allclose(
        1.0 - offset_decays(start, jnp.array([-0.1, 0.1])), [0.1 / np.e, 0.001 * np.e], rtol=1e-4
    )
    np.testing.assert_array_equal(offset_decays(start, jnp.ones(2)), 0.0)


def test_time_features_start_at_tanh_minus_one():
    np.testing.assert_allclose(time_features(jnp.int32(0)), np.tanh(-1.0), rtol=1e-6)
    np.testing.assert_allclose(time_features(jnp.int32(10))[2], 0.0, atol=1e-6)


def test_the_horizon_is_not_read():
    rule, params = SmallFC(hidden=UNROLLED), jnp.ones((2, 3))
    theta = weights(rule)

    @jax.jit
    def step(horizon):
        tx = rule.opt(theta, horizon)
        return tx.update(params, tx.init(params), params)[0]

    np.testing.assert_array_equal(step(1), step(10_000))


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((), None),
        ((7,), None),
        ((2, 3), (1, 0)),
        ((3, 2), (0, 1)),
        ((4, 4), (1, 0)),
        ((3, 3, 1, 16), (3, 1)),
        ((1, 1), (1, 0)),
    ],
)
def test_factored_axes(shape, axes):
    assert factored_axes(shape) == axes


def test_factored_tensors_remember_rows_and_columns_only():
    state = SmallFC().opt(SmallFC().init(jax.random.key(0)), 1).init(jnp.zeros((20, 30)))
    count, *memories = jax.tree.leaves(state)
    assert count.shape == ()
    assert sum(leaf.size for leaf in memories) == 4 * 600 + 3 * (20 + 30)


def test_tensors_of_one_shape_do_not_see_each_other():
    rule = SmallFC(hidden=UNROLLED)
    theta = weights(rule)
    a, b, other = (jax.random.normal(jax.random.key(i), (3, 4)) for i in range(3))
    together, _ = run(rule, theta, [a, other, b], [[b, a, other], [a, a, a]])
    alone, _ = run(rule, theta, [a], [[b], [a]])
    for step, single in zip(together, alone, strict=True):
        np.testing.assert_allclose(step[0], single[0], rtol=1e-5)


def test_large_tensors_in_chunks_move_as_in_one_piece(monkeypatch):
    rule = SmallFC(hidden=12)
    theta, shape = weights(rule), (3, 50)
    params, gradients = (jax.random.normal(jax.random.key(i), shape) for i in range(2))
    (whole,), _ = run(rule, theta, params, [gradients])
    assert params.size < CHUNK
    monkeypatch.setattr("learned_opt.learned.parts.scalar_network.CHUNK", 64)
    stepper.cache_clear()
    (chunked,), _ = run(rule, theta, params, [gradients])
    np.testing.assert_allclose(chunked, whole, rtol=1e-5)


def test_meta_gradients_are_finite_and_right_from_zero_gradients_on():
    """Forward and reverse mode, against central differences along one direction."""
    rule = SmallFC(UNROLLED, step_mult=0.1, exp_mult=0.1)
    params = {"w": jax.random.normal(jax.random.key(5), (2, 3)), "b": jnp.zeros(3)}
    theta, direction = weights(rule), weights(rule, 3)

    @jax.jit
    def loss(theta):
        tx = rule.opt(theta, 10)

        def step(carry, scale):
            p, state = carry
            updates, state = tx.update(jax.tree.map(lambda x: scale * jnp.sin(x), p), state, p)
            return (optax.apply_updates(p, updates), state), None

        (p, _), _ = jax.lax.scan(step, (params, tx.init(params)), jnp.array([0.0, 1.0, 2.0]))
        return sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(p)), jnp.float32(0.0))

    gradient = jax.jit(jax.grad(loss))(theta)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    assert all(bool(jnp.any(leaf)) for leaf in jax.tree.leaves(gradient))
    slope = sum(jnp.vdot(gradient[name], direction[name]) for name in gradient)
    _, forward = jax.jit(lambda t: jax.jvp(loss, (t,), (direction,)))(theta)
    np.testing.assert_allclose(slope, forward, rtol=1e-4)
    step = 1e-3
    ahead = loss(jax.tree.map(lambda t, d: t + step * d, theta, direction))
    behind = loss(jax.tree.map(lambda t, d: t - step * d, theta, direction))
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=2e-2)


@pytest.mark.parametrize(
    "wrong", [{"hidden": 0}, {"exp_mult": 0.0}, {"step_mult": float("nan")}, {"step_mult": -1.0}]
)
def test_refuses_what_cannot_be(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name}: {value} is not allowed"):
        SmallFC(**wrong)
