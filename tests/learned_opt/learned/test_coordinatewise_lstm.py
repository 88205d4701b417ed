"""The coordinatewise LSTM against a second implementation, scalar by scalar in float64."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.learned.coordinatewise_lstm import PRESETS, CoordinatewiseLSTM, log_and_sign
from learned_opt.learned.parts import blocks

SHAPES = {"large": (9, 5), "small": (3,), "scalar": ()}
SCALES = (1.0, 1e-3, 1e-6)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def lstm_of_one(w, b, x, h, c):
    """One scalar's cell: gates in the order input, candidate, forget, output."""
    z = np.asarray(w, np.float64).T @ np.concatenate([x, h]) + np.asarray(b, np.float64)
    i, g, f, o = z.reshape(4, -1)
    c = sigmoid(f + 1.0) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


class OneScalar:
    """Andrychowicz et al.'s rule with the preprocessing of their appendix."""

    def __init__(self, rule: CoordinatewiseLSTM, theta):
        self.rule, self.theta = rule, theta
        self.state = [(np.zeros(units), np.zeros(units)) for units in rule.layers]

    def inputs(self, gradient):
        p = self.rule.log_range
        if p is None:
            return np.array([gradient])
        if abs(gradient) >= math.exp(-p):
            return np.array([math.log(abs(gradient)) / p, np.sign(gradient)])
        return np.array([-1.0, math.exp(p) * gradient])

    def step(self, gradient):
        x = self.inputs(float(gradient))
        for i, (h, c) in enumerate(self.state):
            cell = self.theta[f"lstm{i}"]
            self.state[i] = lstm_of_one(cell["w"], cell["b"], x, h, c)
            x = self.state[i][0]
        readout = self.theta["readout"]
        return self.rule.scale * (x @ np.asarray(readout["w"])[:, 0] + float(readout["b"][0]))


def weights(rule, seed: int = 0):
    """Fresh weights with biases that are not 0."""
    theta = rule.init(jax.random.key(seed))
    leaves, treedef = jax.tree.flatten(theta)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    moved = [x + 0.3 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return treedef.unflatten(moved)


def gradients(seed: int):
    """A tree for each of SCALES; the first entry of the large tensor is 0."""
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    tree = {
        name: jax.random.normal(key, shape)
        for key, (name, shape) in zip(keys, SHAPES.items(), strict=True)
    }
    tree["large"] = tree["large"].at[0, 0].set(0.0)
    return [jax.tree.map(lambda x, s=scale: s * x, tree) for scale in SCALES]


def run(rule, theta, seen, **start):
    """Updates for each tree of gradients, and the last state, in one program."""

    @jax.jit
    def steps(theta, seen):
        tx = rule.opt(theta, 100, **start)
        state, told = tx.init(seen[0]), []
        for gradient in seen:
            updates, state = tx.update(gradient, state)
            told.append(updates)
        return told, state

    return steps(theta, seen)


def agree(rule, theta, scalar_rule, seen, rtol: float, atol: float):
    """Every scalar of every tensor moves as `scalar_rule()` by itself does."""
    updates, _ = run(rule, theta, seen)
    for name in SHAPES:
        for place in np.ndindex(SHAPES[name]):
            other = scalar_rule()
            for gradient, update in zip(seen, updates, strict=True):
                want = other.step(gradient[name][place])
                np.testing.assert_allclose(update[name][place], want, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("preset", "block"), [("released", 8), ("paper", 4096), ("quadratic", 4096)]
)
def test_every_scalar_agrees_with_the_second_implementation(preset, block, monkeypatch):
    """At once and block by block; what is left is the eps inside the logarithm, below 1e-3."""
    monkeypatch.setattr(blocks, "BLOCK", block)
    rule = replace(PRESETS[preset], layers=(4, 3))
    theta = weights(rule)
    tolerance = {"released": 1e-5, "paper": 1e-3, "quadratic": 2e-6}[preset] * rule.scale
    agree(rule, theta, lambda: OneScalar(rule, theta), gradients(3), 0.0, tolerance)


@pytest.mark.parametrize(("preset", "count"), [("released", 5141), ("quadratic", 5061)])
def test_counts_of_weights_and_of_state(preset, count):
    rule = PRESETS[preset]
    theta = rule.init(jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(theta)) == count
    state = jax.eval_shape(rule.opt(theta, 10).init, {"w": jnp.ones((7, 3)), "b": jnp.ones(2)})
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 80 * 23


def test_the_gradient_is_read_as_in_the_paper():
    """Exact at the corners, worked out by hand: p = 5."""
    edge = math.exp(-5.0)
    seen = jnp.array([0.0, 1.0, -1.0, edge / 2, -edge / 2, 100.0, -1e15, math.exp(-2.5)])
    size = [-1.0, 0.0, 0.0, -1.0, -1.0, math.log(100.0) / 5, math.log(1e15) / 5, -0.5]
    np.testing.assert_allclose(
        log_and_sign(seen, 5.0), [size, [0.0, 1.0, -1.0, 0.5, -0.5, 1.0, -1.0, 1.0]], atol=1e-6
    )


def test_a_learning_rate_takes_the_place_of_the_scale():
    rule = CoordinatewiseLSTM(layers=(2,))
    theta, seen = weights(rule), gradients(0)[:1]
    (own,), _ = run(rule, theta, seen)
    (given,), _ = run(rule, theta, seen, learning_rate=0.5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(y, 50.0 * x, rtol=1e-5), own, given)


def test_gradients_are_constants_and_weights_are_not(monkeypatch):
    """In blocks, the slope over theta follows finite differences; over a gradient it is 0."""
    monkeypatch.setattr(blocks, "BLOCK", 1)
    rule = CoordinatewiseLSTM(layers=(2,))
    theta, along = weights(rule), weights(rule, 5)

    @jax.jit
    def last(theta, gradient):
        tx = rule.opt(theta, 10)
        _, state = tx.update(gradient, tx.init(gradient))
        return 1e3 * jnp.sum(optax.tree.sum(tx.update(gradient, state)[0]) ** 2)

    gradient = {"w": jnp.array([0.5, -1e-4, 0.0])}
    slopes, to_gradient = jax.jit(jax.grad(last, (0, 1)))(theta, gradient)
    assert not to_gradient["w"].any()
    step = optax.tree.scale(1e-2, along)
    ends = [last(optax.tree.add(theta, optax.tree.scale(s, step)), gradient) for s in (1.0, -1.0)]
    np.testing.assert_allclose(optax.tree.vdot(slopes, step), (ends[0] - ends[1]) / 2, rtol=2e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": ()}, r"layers: \(\) must be one or more positive integers"),
        ({"layers": (20, 0)}, r"layers: \(20, 0\) must be"),
        ({"log_range": 0.0}, "log_range: 0.0 is not allowed"),
        ({"scale": math.inf}, "scale: inf is not allowed; it must be finite and above 0"),
    ],
)
def test_choices_that_are_not_allowed(fields, message):
    with pytest.raises(ValueError, match=message):
        CoordinatewiseLSTM(**fields)
