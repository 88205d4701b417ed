import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.attention import (
    attention,
    attention_init,
    block,
    block_init,
    layer_norm,
    transformer,
    transformer_init,
)
from tasks.families.layers import norm_init
from tasks.names import check_divides


def distorted(params):
    """Biases, gains and offsets away from their starts, so that each of them shows."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(9), len(leaves))
    return tree.unflatten(
        [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    )


def numpy_attention(params, x, heads, causal):
    """Position by position and head by head, in double precision."""
    params = jax.tree.map(np.float64, params)
    query, key, value = (
        x @ params[name]["weight"] + params[name]["bias"] for name in ("query", "key", "value")
    )
    width = x.shape[-1] // heads
    mean = np.zeros_like(x)
    for n, q, h in np.ndindex(*x.shape[:2], heads):
        part = slice(h * width, (h + 1) * width)
        last = q + 1 if causal else x.shape[1]
        scores = key[n, :last, part] @ query[n, q, part] / np.sqrt(width)
        weights = np.exp(scores - scores.max())
        mean[n, q, part] = weights / weights.sum() @ value[n, :last, part]
    return mean @ params["output"]["weight"] + params["output"]["bias"]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [1, 3])
def test_attention_against_numpy(heads, causal):
    params = distorted(attention_init(jax.random.key(0), 6))
    x = np.random.default_rng(0).normal(size=(2, 5, 6))
    found = attention(params, jnp.array(x, jnp.float32), heads, causal)
    np.testing.assert_allclose(
        found, numpy_attention(params, x, heads, causal), rtol=1e-4, atol=1e-5
    )


def test_block_adds_attention_and_mlp_of_normalised_values():
    params = distorted(block_init(jax.random.key(0), 4, 7))
    x = np.random.default_rng(0).normal(size=(2, 3, 4))

    def norm(p, x):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * np.float64(p["gain"]) + np.float64(p["offset"])

    middle = x + numpy_attention(params["attention"], norm(params["norm0"], x), 2, True)
    inner = np.tanh(norm(params["norm1"], middle) @ params["up"]["weight"] + params["up"]["bias"])
    expected = middle + inner @ params["down"]["weight"] + params["down"]["bias"]
    key = jax.random.key(0)
    found = block(params, jnp.array(x, jnp.float32), key, 2, causal=True, activation="tanh")
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_causal_positions_depend_on_no_later_one(causal):
    params = distorted(transformer_init(jax.random.key(0), 2, 4, 5))
    x = jax.random.normal(jax.random.key(1), (1, 5, 4))
    run = lambda x: transformer(params, x, jax.random.key(2), 2, causal=causal)[0]
    slopes = np.abs(jax.jit(jax.jacobian(run))(x)[:, :, 0]).sum((1, 3))  # (output, input)
    later = np.triu(np.ones((5, 5), bool), 1)
    assert np.all((slopes == 0) == (later & causal))


def test_transformer_ends_normalised_and_layers_are_applied_in_turn():
    params = transformer_init(jax.random.key(0), 2, 8, 16)
    x = jax.random.normal(jax.random.key(1), (3, 5, 8))
    key = jax.random.key(2)
    found = transformer(params, x, key, 4)
    np.testing.assert_allclose(found.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(-1), 1, rtol=1e-3)
    middle = block(params["block1"], block(params["block0"], x, key, 4), key, 4)
    np.testing.assert_allclose(found, layer_norm(norm_init(8), middle), rtol=1e-4, atol=1e-5)


def test_without_dropout_the_key_does_not_matter():
    params = transformer_init(jax.random.key(0), 1, 4, 8)
    x = jax.random.normal(jax.random.key(1), (1, 3, 4))
    one, two = (transformer(params, x, jax.random.key(seed), 2) for seed in (0, 1))
    np.testing.assert_array_equal(one, two)
    one, two = (transformer(params, x, jax.random.key(seed), 2, rate=0.5) for seed in (0, 1))
    assert np.any(one != two)


def test_initializer_and_scale_reach_every_weight():
    one, two = (transformer_init(jax.random.key(0), 1, 4, 8, s, "orthogonal") for s in (1.0, 2.0))
    for name in ("query", "key", "value", "output"):
        weight = np.asarray(one["block0"]["attention"][name]["weight"])
        np.testing.assert_allclose(weight.T @ weight, np.eye(4), atol=1e-5)
    jax.tree.map_with_path(
        lambda path, a, b: np.testing.assert_allclose(b, 2 * a if "weight" in str(path) else a),
        one,
        two,
    )


def test_what_does_not_divide_is_refused_with_the_nearest_that_do():
    check_divides("heads", 8, 24, "hidden 24")
    with pytest.raises(ValueError, match="heads: 5 is not allowed; .* hidden 24, as 4 and 6 do"):
        check_divides("heads", 5, 24, "hidden 24")
