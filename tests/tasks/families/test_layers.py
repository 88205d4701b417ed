import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.layers import (
    ACTIVATIONS,
    INITIALIZERS,
    LOSSES,
    dense,
    dropout,
    initial,
    mlp_apply,
    mlp_init,
)

POINTS = np.linspace(-8, 8, 33)

FORMULAS = {
    "celu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "cos": np.cos,
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "gelu": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "leaky_relu_10": lambda x: np.where(x > 0, x, 0.1 * x),
    "leaky_relu_20": lambda x: np.where(x > 0, x, 0.2 * x),
    "leaky_relu_40": lambda x: np.where(x > 0, x, 0.4 * x),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "sin": np.sin,
    "softplus": lambda x: np.log1p(np.exp(x)),
    "tanh": np.tanh,
}


def test_activations_against_their_formulas():
    assert set(ACTIVATIONS) == set(FORMULAS)
    for name, formula in FORMULAS.items():
        found = ACTIVATIONS[name](jnp.asarray(POINTS, jnp.float32))
        np.testing.assert_allclose(found, formula(POINTS), rtol=1e-4, atol=1e-5, err_msg=name)


INPUTS, OUTPUTS = 300, 200
STDEVS = {
    "by_inputs": 1 / math.sqrt(INPUTS),
    "glorot_normal": math.sqrt(2 / (INPUTS + OUTPUTS)),
    "glorot_uniform": math.sqrt(2 / (INPUTS + OUTPUTS)),
    "he_normal": math.sqrt(2 / INPUTS),
    "he_uniform": math.sqrt(2 / INPUTS),
    "lecun_normal": 1 / math.sqrt(INPUTS),
    "normal": 0.1,
    "orthogonal": 1 / math.sqrt(INPUTS),
    "truncated_normal": 0.1 * 0.8796,  # cut at two standard deviations
    "uniform": 0.1 / math.sqrt(3),
}


def test_initializers_have_their_standard_deviation_and_scale():
    assert set(INITIALIZERS) == set(STDEVS)
    for name, stdev in STDEVS.items():
        weight = np.asarray(initial(jax.random.key(0), (INPUTS, OUTPUTS), 3.0, name))
        assert weight.dtype == np.float32
        np.testing.assert_allclose(weight.std(), 3 * stdev, rtol=0.02, err_msg=name)
        np.testing.assert_allclose(weight.mean(), 0, atol=0.05 * stdev, err_msg=name)


@pytest.mark.parametrize("shape", [(20, 10), (10, 20), (6, 6), (3, 4, 5), (1, 4)])
def test_orthogonal_weights_turn_without_stretching(shape):
    keys = jax.random.split(jax.random.key(0), 400)
    weight = np.asarray(jax.vmap(lambda key: initial(key, shape, 1.0, "orthogonal"))(keys))
    assert weight.shape == (400, *shape)
    flat = weight.reshape(400, -1, shape[-1])
    flat = flat if flat.shape[1] >= flat.shape[2] else flat.swapaxes(1, 2)
    gram = flat.swapaxes(1, 2) @ flat
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(gram.shape[1]), gram.shape), atol=2e-6)
    # No direction is special: every entry has mean 0 and variance 1 / rows.
    rows = flat.shape[1]
    np.testing.assert_allclose(flat.mean(0), 0, atol=5 / np.sqrt(400 * rows))
    np.testing.assert_allclose((flat**2).mean(0), 1 / rows, atol=0.45 / rows)


def test_dense_weights_are_what_they_always_were():
    """Old runs start alike: normal draws over the root of the inputs, a zero bias."""
    layer = dense(jax.random.key(3), 13, 5)
    expected = jax.random.normal(jax.random.key(3), (13, 5)) * (1.0 / math.sqrt(13))
    np.testing.assert_array_equal(layer["weight"], expected)
    np.testing.assert_array_equal(layer["bias"], np.zeros(5))


def test_losses_on_one_hot_targets():
    rng = np.random.default_rng(0)
    logits, label = 2 * rng.normal(size=(6, 3)), np.array([0, 1, 2, 2, 1, 0])
    error = np.abs(logits - np.eye(3)[label])
    expected = {
        "mse": (error**2).mean(),
        "mae": error.mean(),
        "huber": np.where(error <= 1, error**2 / 2, error - 0.5).mean(),
    }
    assert (error > 1).any() and (error < 1).any()
    for name, value in expected.items():
        found = LOSSES[name](jnp.array(logits), jnp.array(label))
        np.testing.assert_allclose(found, value, rtol=1e-5)


@pytest.mark.parametrize("rate", [0.25, 0.5])
def test_dropout_keeps_the_mean(rate):
    x = np.asarray(dropout(jax.random.key(0), jnp.ones(4000), rate))
    assert set(x.tolist()) <= {0.0, np.float32(1 / (1 - rate)).item()}
    np.testing.assert_allclose((x == 0).mean(), rate, atol=0.03)


def test_dropout_in_a_network_follows_the_key():
    params = mlp_init(jax.random.key(0), (4, 50, 50, 2))
    x = jnp.ones((3, 4))

    def out(key, rate=0.5):
        return np.asarray(mlp_apply(params, x, "relu", rate, jax.random.key(key)))

    np.testing.assert_array_equal(out(1), out(1))
    assert np.any(out(1) != out(2))
    np.testing.assert_array_equal(out(1, 0.0), mlp_apply(params, x, "relu"))
