"""The coordinatewise RNN against a second implementation, scalar by scalar in float64."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.learned.coordinatewise_rnn import CoordinatewiseRNN

RULE = CoordinatewiseRNN(layers=(4, 3))
SHAPES = {"matrix": (2, 3), "vector": (2,), "scalar": ()}


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


class OneScalar:
    """The released code for a single coordinate: its rate is a product, its LSTM gate by gate."""

    def __init__(self, theta, rate):
        self.theta = jax.tree.map(lambda x: np.asarray(x, np.float64), theta)
        self.rms = self.decay = 1.0
        self.rate = rate
        self.state = [list(self.theta["start"][f"lstm{i}"]) for i in range(len(RULE.layers))]

    def read(self, name, h):
        return (h @ self.theta[name]["w"] + self.theta[name]["b"])[0]

    def step(self, g):
        self.rms = (1.0 - self.decay) * (g * g + 1e-12) + self.decay * self.rms
        x = np.array([math.asinh(g / math.sqrt(self.rms + 1e-16))])
        for layer, (h, c) in enumerate(self.state):
            cell = self.theta[f"lstm{layer}"]
            i, j, f, o = np.split(np.concatenate([x, h]) @ cell["w"] + cell["b"], 4)
            c = sigmoid(f + 1.0) * c + sigmoid(i) * np.tanh(j)
            x = sigmoid(o) * np.tanh(c)
            self.state[layer] = [x, c]
        self.decay = sigmoid(self.read("scale_decay", x))
        self.rate = self.rate * 2.0 * sigmoid(self.read("log_rate", x))
        self.rate = min(max(self.rate, math.exp(-33.0)), math.exp(33.0))
        return -self.rate * (x @ self.theta["direction"])[0]


@pytest.fixture(scope="module")
def theta():
    leaves, treedef = jax.tree.flatten(RULE.init(jax.random.key(0)))
    draw = np.random.default_rng(1)
    moved = [x + 0.3 * draw.normal(size=x.shape).astype(np.float32) for x in leaves]
    return treedef.unflatten(moved)


@jax.jit
def run(theta, seen, rate):
    tx = RULE.opt(theta, 100, learning_rate=rate)
    state, told = tx.init(seen[0]), []
    for gradient in seen:
        updates, state = tx.update(gradient, state)
        told.append(updates)
    return told


@pytest.mark.parametrize(("bias", "rate"), [(0.0, 0.01), (3.0, 1e14), (-3.0, 1e-14)])
def test_every_scalar_agrees_with_the_second_implementation(theta, bias, rate):
    """Also where the rate comes to its bounds, exp(33) and exp(-33)."""
    theta = theta | {"log_rate": {"w": theta["log_rate"]["w"], "b": jnp.array([bias])}}
    draw = np.random.default_rng(2)
    seen = [
        {name: np.float32(s) * draw.normal(size=shape) for name, shape in SHAPES.items()}
        for s in (1.0, 100.0, 1e-3, 0.0)
    ]
    seen = jax.tree.map(np.float32, seen)
    updates, at_bound = run(theta, seen, rate), 0
    for name, shape in SHAPES.items():
        for place in np.ndindex(shape):
            other = OneScalar(theta, rate)
            for gradient, update in zip(seen, updates, strict=True):
                want = other.step(float(gradient[name][place]))
                np.testing.assert_allclose(update[name][place], want, rtol=1e-4, atol=1e-6 * rate)
                at_bound += abs(math.log(other.rate)) > 32.9999
    assert bool(at_bound) == (bias != 0.0)


def test_the_first_gradient_enters_as_it_is():
    """By hand: tanh(asinh(g)) is g / sqrt(1 + g^2), 0.6 at 0.75; one unit sees nothing else."""
    rule = CoordinatewiseRNN(layers=(1,))
    theta = jax.tree.map(jnp.zeros_like, rule.init(jax.random.key(0)))
    theta["lstm0"]["w"] = theta["lstm0"]["w"].at[0, 1].set(1.0)  # input to candidate
    theta["direction"] = jnp.ones((1, 1))

    @jax.jit
    def two_steps(gradient):
        tx = rule.opt(theta, 10)
        move, state = tx.update(gradient, tx.init(gradient))
        return move, (state.square, tx.update(gradient, state)[1].square)

    gradient = jnp.float32(0.75)
    slope, (first, second) = jax.jit(jax.jacfwd(two_steps, has_aux=True))(gradient)
    move, _ = two_steps(gradient)
    np.testing.assert_allclose(move, -0.5 * math.tanh(0.3), rtol=1e-6)
    # The run is differentiated through its gradients.
    np.testing.assert_allclose(slope, -0.25 * 0.512 * (1.0 - math.tanh(0.3) ** 2), rtol=1e-5)
    np.testing.assert_allclose([*first, *second], [1.0, 0.5 * (0.75**2 + 1.0)], rtol=1e-6)


def test_counts_and_laws_of_fresh_weights_and_of_state():
    rule = CoordinatewiseRNN()
    theta = rule.init(jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(theta)) == 5182
    state = jax.eval_shape(rule.opt(theta, 10).init, {"w": jnp.ones((7, 3)), "b": jnp.ones(2)})
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 83 * 23
    rows = [theta["direction"], theta["scale_decay"]["w"], theta["log_rate"]["w"]]
    assert 0.5 < np.std(np.concatenate(rows)) / (0.5 / math.sqrt(20)) < 1.5
    assert float(theta["scale_decay"]["b"][0]) == pytest.approx(2.2)
    start = np.concatenate([theta["start"][f"lstm{i}"].ravel() for i in range(2)])
    assert np.abs(start).max() < 1.0
    assert np.var(start) == pytest.approx(1 / 3, rel=0.3)
    still = replace(rule, zero_init_lr_weights=True).init(jax.random.key(0))
    assert not still["log_rate"]["w"].any()


def test_first_rates_are_drawn_for_each_scalar(theta):
    rule = replace(RULE, init_lr_range=(1e-6, 1e-2))
    params = {"w": jnp.zeros(500)}
    drawn = rule.opt(theta, 10, jax.random.key(3)).init(params).log_rate
    low, high = math.log(1e-6), math.log(1e-2)
    quantiles = np.quantile(drawn, [0.0, 0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(quantiles, np.linspace(low, high, 5), atol=0.5)
    middle = rule.opt(theta, 10).init(params).log_rate
    np.testing.assert_allclose(middle, math.log(1e-4), rtol=1e-5)


@pytest.mark.parametrize(
    ("field", "value"),
    [("layers", (20, 0)), ("init_lr_range", (1e-2, 1e-6)), ("init_lr_range", (0.0, 1.0))],
)
def test_choices_that_are_not_allowed(field, value):
    with pytest.raises(ValueError, match=f"^{field}: "):
        replace(RULE, **{field: value})
