"""RNNprop against a second implementation, scalar by scalar in float64, and its invariances."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.learned.rnnprop import RNNprop

RULE = RNNprop(dense=3, layers=(4, 3))
SHAPES = {"matrix": (2, 3), "scalar": ()}


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


class OneScalar:
    """Adam's two inputs, an ELU layer, the LSTM with its gates one by one, a bounded move."""

    def __init__(self, rule: RNNprop, theta):
        self.rule = rule
        self.theta = jax.tree.map(lambda x: np.asarray(x, np.float64), theta)
        self.m = self.v = 0.0
        self.t = 0
        self.state = [(np.zeros(units), np.zeros(units)) for units in rule.layers]

    def step(self, g):
        b1, b2 = self.rule.b1, self.rule.b2
        self.t += 1
        self.m, self.v = b1 * self.m + (1 - b1) * g, b2 * self.v + (1 - b2) * g * g
        m_hat, v_hat = self.m / (1 - b1**self.t), self.v / (1 - b2**self.t)
        x = np.array([g, m_hat]) / (math.sqrt(v_hat) + self.rule.eps)
        x = x @ self.theta["dense"]["w"] + self.theta["dense"]["b"]
        x = np.where(x > 0, x, np.exp(x) - 1.0)
        for layer, (h, c) in enumerate(self.state):
            cell = self.theta[f"lstm{layer}"]
            i, g_, f, o = np.split(np.concatenate([x, h]) @ cell["w"] + cell["b"], 4)
            c = sigmoid(f + 1.0) * c + sigmoid(i) * np.tanh(g_)
            x = sigmoid(o) * np.tanh(c)
            self.state[layer] = (x, c)
        said = x @ self.theta["readout"]["w"] + self.theta["readout"]["b"]
        return -self.rule.scale * np.tanh(said[0])


@pytest.fixture(scope="module")
def theta():
    leaves, treedef = jax.tree.flatten(RULE.init(jax.random.key(0)))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [x + 0.3 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return treedef.unflatten(moved)


@pytest.fixture(scope="module")
def run(theta):
    @jax.jit
    def steps(seen, rate):
        tx = RULE.opt(theta, 100, learning_rate=rate)
        state, told = tx.init(seen[0]), []
        for gradient in seen:
            updates, state = tx.update(gradient, state)
            told.append(updates)
        return told

    return lambda seen, rate=RULE.scale: steps(seen, rate)


def gradients(scale: float = 1.0):
    """Four trees in a row, of several sizes."""
    keys = jax.random.split(jax.random.key(2), 4)
    return [
        {name: s * scale * jax.random.normal(key, shape) for name, shape in SHAPES.items()}
        for key, s in zip(keys, (1.0, 0.1, 3.0, 0.0), strict=True)
    ]


def test_every_scalar_agrees_with_the_second_implementation(theta, run):
    seen = gradients()
    updates = run(seen)
    for name, shape in SHAPES.items():
        for place in np.ndindex(shape):
            other = OneScalar(RULE, theta)
            for gradient, update in zip(seen, updates, strict=True):
                want = other.step(float(gradient[name][place]))
                np.testing.assert_allclose(update[name][place], want, rtol=2e-5, atol=1e-7)


def test_the_size_of_the_loss_does_not_matter_and_moves_are_bounded(run):
    small, large = run(gradients()), run(gradients(1e6))
    for one, other in zip(small, large, strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4), one, other)
    (*_, last) = run(gradients(), 1e-3)
    assert 0.0 < max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(last)) < 1e-3


def test_counts_of_weights_and_of_state():
    rule = RNNprop()
    theta = rule.init(jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(theta)) == 6641
    state = jax.eval_shape(rule.opt(theta, 10).init, {"w": jnp.ones((7, 3)), "b": jnp.ones(2)})
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 82 * 23 + 1  # one counter


@pytest.mark.parametrize(
    ("field", "value"), [("dense", 0), ("layers", (0,)), ("b1", 1.0), ("b2", -0.1), ("eps", 0.0)]
)
def test_choices_that_are_not_allowed(field, value):
    with pytest.raises(ValueError, match=f"^{field}: "):
        replace(RNNprop(), **{field: value})
