import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.descent import trained

from tasks.families.conv_language import ConvLanguageModel, shift
from tasks.families.tokens import SYMBOLS


def test_shifting_looks_back():
    x = jnp.arange(1.0, 9.0).reshape(1, 4, 2)
    np.testing.assert_array_equal(shift(x, 3)[0], [[0, 0], [0, 0], [0, 0], [1, 2]])


def test_the_network_against_numpy_position_by_position():
    family = ConvLanguageModel(width=4, depth=2)
    params = family.task((), {}).init(jax.random.key(0))
    symbol = np.random.default_rng(0).integers(0, SYMBOLS, (3, 6))
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x = weights["embedding"][symbol]
    for back, layer in ((1, weights["layer0"]), (2, weights["layer1"])):
        inner = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        after = x.copy()
        for t in range(6):
            earlier = inner[:, t - back] if t >= back else np.zeros((3, 4))
            seen = np.concatenate([inner[:, t], earlier], 1) @ layer["weight"] + layer["bias"]
            after[:, t] += seen[:, :4] / (1 + np.exp(-seen[:, 4:]))
        x = after
    expected = x @ weights["output"]["weight"] + weights["output"]["bias"]
    logits = family.logits(params, jnp.array(symbol))
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


def test_no_symbol_is_guessed_from_what_follows():
    family = ConvLanguageModel()
    params = family.task((), {}).init(jax.random.key(0))
    symbol = jnp.zeros((1, 12), jnp.int32)
    logits, other = (family.logits(params, s) for s in (symbol, symbol.at[0, 5].set(3)))
    np.testing.assert_array_equal(logits[:, :5], other[:, :5])
    changed = np.any(np.asarray(logits != other), axis=-1)[0]
    assert changed[5:12].all()  # the layers together reach seven symbols back


def test_text_is_learned_from_near_chance():
    first, last, _ = trained(ConvLanguageModel())
    assert np.log(SYMBOLS) - 0.5 < first < np.log(SYMBOLS) + 2 and last < 2.8


def test_bad_fields_are_named():
    with pytest.raises(ValueError, match="dataset: unknown name 'digits'"):
        ConvLanguageModel(dataset="digits")
    with pytest.raises(ValueError, match="sequence: 1024 is not allowed; it must be below 1024"):
        ConvLanguageModel(sequence=1024)
    with pytest.raises(ValueError, match="depth: 6 is not allowed; the last layer looks 32"):
        ConvLanguageModel(depth=6)
