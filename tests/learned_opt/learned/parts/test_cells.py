"""The cells against their equations, and the law of fresh weights."""

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.learned.parts.cells import init_linear, init_lstm, lstm, tanh_network


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def test_lstm_is_the_one_of_haiku():
    """Gate by gate in float64, every gate with its own slice of the weights."""
    inputs, hidden, columns = 3, 5, 7
    rng = np.random.default_rng(0)
    w, b = rng.normal(size=(inputs + hidden, 4 * hidden)), rng.normal(size=4 * hidden)
    x = rng.normal(size=(inputs, columns))
    h, c = (rng.normal(size=(hidden, columns)) for _ in range(2))
    weights = {"w": jnp.asarray(w, jnp.float32), "b": jnp.asarray(b, jnp.float32)}
    state = (jnp.asarray(h, jnp.float32), jnp.asarray(c, jnp.float32))
    got = lstm(weights, jnp.asarray(x, jnp.float32), state)
    for n in range(columns):
        z = np.concatenate([x[:, n], h[:, n]]) @ w + b
        i, g, f, o = np.split(z, 4)
        cell = sigmoid(f + 1.0) * c[:, n] + sigmoid(i) * np.tanh(g)
        np.testing.assert_allclose(got[1][:, n], cell, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got[0][:, n], sigmoid(o) * np.tanh(cell), rtol=1e-5, atol=1e-6)


def test_fresh_weights_are_cut_at_two_deviations():
    weights = init_linear(jax.random.key(0), 25, 4000)
    assert float(jnp.abs(weights["w"]).max()) <= 0.4
    np.testing.assert_allclose(weights["w"].std(), 0.2 * 0.8796, rtol=0.01)
    assert not weights["b"].any()
    shapes = jax.tree.map(jnp.shape, init_lstm(jax.random.key(0), 2, 20))
    assert shapes == {"w": (22, 80), "b": (80,)}


def test_the_tanh_network_takes_each_row_by_itself():
    rng = np.random.default_rng(0)
    sizes = ((3, 5), (5, 4), (4, 2))
    layers = [{"w": rng.normal(size=s), "b": rng.normal(size=s[1])} for s in sizes]
    rows = rng.normal(size=(6, 3))
    want = rows
    for layer in layers[:2]:
        want = np.tanh(want @ layer["w"] + layer["b"])
    want = want @ layers[2]["w"] + layers[2]["b"]
    first, second, readout = jax.tree.map(jnp.float32, layers)
    hidden = {"first": first, "second": second}
    got = tanh_network(hidden, readout, list(jnp.float32(rows)))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert tanh_network(hidden, readout, []) == []
