"""The network against NumPy, and its normaliser against all batches at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.controller.network import Network, Normaliser, Recurrent


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


@pytest.mark.parametrize("layer_norm", [False, True])
def test_two_steps_by_hand(layer_norm):
    net = Network(5, (3, 2), dense=4, lstm=6, trunk=3, layer_norm=layer_norm, last=1.0)
    rng = np.random.default_rng(0)
    weights = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32),
        jax.eval_shape(net.init, jax.random.key(0)),
    )
    x = np.asarray(rng.normal(size=(2, 7, 5)), np.float32)

    def layer(part, y):
        return y @ part["w"] + part["b"]

    h = c = np.zeros((7, 6))
    want = []
    lstm = weights["lstm"]
    for t in range(2):
        dense = np.maximum(layer(weights["dense"], x[t]), 0)
        z = (np.concatenate([dense, h], 1) @ lstm["w"]).reshape(7, 4, 6)
        if layer_norm:
            z = (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-5)
            z = z * lstm["gain"]
        i, f, g, o = np.moveaxis(z + lstm["b"].reshape(4, 6), 1, 0)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        trunk = np.maximum(layer(weights["trunk"], h), 0)
        want = []
        for head in weights["heads"].values():
            inner = np.maximum(layer(head["inner"], trunk), 0)
            want.append(layer(head["last"], trunk + layer(head["outer"], inner)))

    def steps(x):
        state = Recurrent(*(jnp.zeros((7, 6)) for _ in range(2)))
        state, _ = net.step(weights, state, x[0])
        return net.step(weights, state, x[1])

    state, outputs = jax.jit(steps)(x)
    np.testing.assert_allclose(state.hidden, h, rtol=1e-4, atol=1e-5)
    for got, one in zip(net.split(outputs), want, strict=True):
        np.testing.assert_allclose(got, one, rtol=1e-4, atol=1e-4)


def test_a_fresh_policy_is_nearly_uniform_and_single_runs_are_rows_of_batches():
    net = Network(9, (4, 3), dense=32, lstm=16, trunk=32)
    weights = jax.jit(net.init)(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (5, 9))
    state = jax.tree.map(lambda leaf: jnp.zeros((5, *leaf.shape)), net.initial_state())
    _, outputs = jax.jit(net.step)(weights, state, x)
    one = jax.jit(net.step)(weights, net.initial_state(), x[2])[1]
    np.testing.assert_allclose(outputs[2], one, atol=1e-6)
    for logits in net.split(outputs):
        shares = jax.nn.softmax(logits)
        assert np.abs(shares * logits.shape[-1] - 1).max() < 0.1


def test_the_normaliser_is_the_weighted_mean_and_variance_of_all_it_saw():
    rng = np.random.default_rng(0)
    batches = 3.0 + 2.0 * rng.normal(size=(4, 6, 2)).astype(np.float32)
    mask = rng.random((4, 6)) < 0.7
    decay, normaliser = 0.8, Normaliser.start(2)
    for x, m in zip(batches, mask, strict=True):
        normaliser = normaliser.seeing(jnp.asarray(x), jnp.asarray(m), decay)
    shares = decay ** np.arange(3, -1, -1.0)
    shares /= shares.sum()
    means = np.stack([x[m].mean(0) for x, m in zip(batches, mask, strict=True)])
    squares = np.stack([(x[m] ** 2).mean(0) for x, m in zip(batches, mask, strict=True)])
    mean = shares @ means
    np.testing.assert_allclose(normaliser.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(normaliser.variance, shares @ squares - mean**2, rtol=1e-4)
    got = normaliser(jnp.array([[3.0, 1e6], [-1e6, 3.0]]))
    assert got[0, 1] == 2.0 and got[1, 0] == -2.0
    want = (3.0 - mean[0]) / np.sqrt(normaliser.variance[0] + 1e-5)
    np.testing.assert_allclose(got[0, 0], want, rtol=1e-4)


def test_the_normaliser_ignores_what_is_masked():
    start = Normaliser.start(2).seeing(jnp.ones((3, 2)), jnp.ones(3, bool), 0.9)
    same = start.seeing(jnp.full((3, 2), jnp.nan), jnp.zeros(3, bool), 0.9)
    for a, b in zip(jax.tree.leaves(start), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(a, b)

    np.testing.assert_allclose(Normaliser.start(2)(jnp.array([0.5, -1.0])), [0.5, -1.0], rtol=1e-4)
