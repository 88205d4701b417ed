"""The small per-parameter network against its published numbers and a second implementation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.learned.parts.features import factored_axes, offset_decays, time_features
from learned_opt.learned.parts.scalar_network import CHUNK
from learned_opt.learned.small_fc import SmallFC

SHAPES = [(), (3,), (2, 3), (3, 3), (4, 3), (3, 4), (2, 1, 3), (1, 1), (5, 2, 4)]


def count(rule: SmallFC) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(rule.init(jax.random.key(0))))


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


def run(rule: SmallFC, theta, params, gradients, **start):
    tx = rule.opt(theta, 100, **start)

    @jax.jit
    def step(gradients, state, params):
        updates, state = tx.update(gradients, state, params)
        return updates, state, optax.apply_updates(params, updates)

    state, seen = tx.init(params), []
    for gradient in gradients:
        updates, state, params = step(gradient, state, params)
        seen.append(updates)
    return seen, state


class OneTensor:
    """Section by section in NumPy float64: every feature of every scalar, written out."""

    BETAS = np.array([0.9, 0.99, 0.999])

    def __init__(self, rule: SmallFC, theta, param):
        self.rule = rule
        self.w = {name: np.asarray(leaf, np.float64) for name, leaf in theta.items()}
        self.p = np.atleast_1d(np.asarray(param, np.float64))
        self.t = 0
        self.m = [np.zeros_like(self.p) for _ in range(3)]
        self.v = np.zeros_like(self.p)
        self.full = [np.zeros_like(self.p) for _ in range(3)]
        self.factored = self.p.ndim > 1
        if self.factored:
            order = np.argsort(self.p.shape, kind="stable")
            self.d0, self.d1 = int(order[-1]), int(order[-2])
            self.row = [np.zeros_like(self.p.mean(self.d0)) for _ in range(3)]
            self.col = [np.zeros_like(self.p.mean(self.d1)) for _ in range(3)]

    def betas(self, name, first):
        return 1.0 - np.exp(10.0 * (np.log(1.0 - first) / 10.0 + self.w[f"{name}_offset"]))

    def second_moments(self, g, k, beta):
        """(row, column, factor of the gradient, factor of the momentum), all of the full shape."""
        square = g**2 + 1e-30
        if not self.factored:
            self.full[k] = v = beta * self.full[k] + (1.0 - beta) * square
            return v, v, np.maximum(v + 1e-9, 1e-9) ** -0.5, (v + 1e-6) ** -0.5
        self.row[k] = beta * self.row[k] + (1.0 - beta) * square.mean(self.d0)
        self.col[k] = beta * self.col[k] + (1.0 - beta) * square.mean(self.d1)
        left = self.d1 - 1 if self.d1 > self.d0 else self.d1
        centre = self.row[k].mean(left, keepdims=True)
        r = np.maximum(self.row[k] / (centre + 1e-9), 1e-9) ** -0.5
        c = np.maximum(self.col[k], 1e-9) ** -0.5

        def spread(x, axis):
            return np.broadcast_to(np.expand_dims(x, axis), self.p.shape)

        factor = spread(r, self.d0) * spread(c, self.d1)
        return spread(self.row[k], self.d0), spread(self.col[k], self.d1), factor, factor

    def step(self, gradient):
        g = np.clip(np.asarray(gradient, np.float64).reshape(self.p.shape), -1000, 1000)
        betas = self.betas("momentum", self.BETAS)
        self.m = [b * m + (1 - b) * g for b, m in zip(betas, self.m, strict=True)]
        b = self.betas("square", 0.999)[0]
        self.v = b * self.v + (1 - b) * g**2
        kept = [
            self.second_moments(g, k, beta)
            for k, beta in enumerate(self.betas("factored", self.BETAS))
        ]
        inverse = (self.v + 1e-6) ** -0.5
        features = [g, self.p, *self.m, self.v, *[m * inverse for m in self.m], inverse]
        features += [g * factor for _, _, factor, _ in kept]
        features += [row for row, _, _, _ in kept] + [col for _, col, _, _ in kept]
        features += [(row + 1e-8) ** -0.5 for row, _, _, _ in kept]
        features += [(col + 1e-8) ** -0.5 for _, col, _, _ in kept]
        features += [m * factor for m, (_, _, _, factor) in zip(self.m, kept, strict=True)]
        x = np.stack([f * (1e-5 + np.mean(f**2)) ** -0.5 for f in features], -1)
        taus = [1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5]
        clock = [np.full(self.p.shape, np.tanh(self.t / tau - 1.0)) for tau in taus]
        x = np.concatenate([x, np.stack(clock, -1)], -1)
        x = np.maximum(x @ self.w["w0"] + self.w["b0"], 0.0)
        x = np.maximum(x @ self.w["w1"] + self.w["b1"], 0.0)
        x = x @ self.w["w2"] + self.w["b2"]
        step = self.rule.step_mult * x[..., 0] * np.exp(self.rule.exp_mult * x[..., 1])
        self.p, self.t = self.p - step, self.t + 1
        return -step


def test_weight_counts():
    assert count(SmallFC()) == 197
    assert count(SmallFC(hidden=32)) == 2409


@pytest.mark.parametrize("hidden", [4, 32])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 600.0])
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
    rule = SmallFC(exp_mult=0.5, step_mult=0.02)
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
    rule, params = SmallFC(), jnp.ones((2, 3))
    theta, seen = weights(rule), []
    for horizon in (1, 10_000):
        tx = rule.opt(theta, horizon)
        seen.append(tx.update(params, tx.init(params), params)[0])
    np.testing.assert_array_equal(*seen)


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
    rule = SmallFC()
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
    (chunked,), _ = run(rule, theta, params, [gradients])
    np.testing.assert_allclose(chunked, whole, rtol=1e-5)


def test_meta_gradients_are_finite_and_right_from_zero_gradients_on():
    """Forward and reverse mode, against central differences along one direction."""
    rule = SmallFC(step_mult=0.1, exp_mult=0.1)
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
