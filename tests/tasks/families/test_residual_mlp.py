import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.descent import trained

from tasks import data
from tasks.families import residual_mlp
from tasks.families.residual_mlp import ResidualMLP, table


def rows(count, rng):
    return {
        "features": rng.normal(size=(count, 10)).astype(np.float32),
        "target": (100 + 50 * rng.normal(size=count)).astype(np.float32),
    }


@pytest.fixture
def numbers(monkeypatch):
    """A table with a number for every row, in place of the stored one."""
    rng = np.random.default_rng(0)
    parts = {split: rows(n, rng) for split, n in zip(("train", "test"), (70, 20), strict=True)}
    monkeypatch.setattr(residual_mlp, "load", lambda dataset: parts)
    table.cache_clear()
    yield parts
    table.cache_clear()


def test_the_network_against_numpy():
    family = ResidualMLP(width=5, depth=2)
    params = family.task((), data.load("wine")).init(jax.random.key(0))
    params["block0"]["gain"] = jnp.arange(1.0, 6.0)
    x = np.random.default_rng(0).normal(size=(4, 13))
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def normal(x):
        return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)

    def layer(part, x):
        return x @ part["weight"] + part["bias"]

    hidden = layer(weights["inward"], x)
    for block in (weights["block0"], weights["block1"]):
        inner = layer(block["first"], normal(hidden) * block["gain"])
        hidden = hidden + layer(block["second"], inner * np.tanh(np.log1p(np.exp(inner))))
    expected = layer(weights["outward"], normal(hidden))
    np.testing.assert_allclose(family.output(params, jnp.array(x)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_hinge"])
def test_classes_begin_near_chance_and_are_learned(loss):
    first, last, _ = trained(ResidualMLP(loss=loss), steps=150)
    assert 0.3 < first < 12 and last < 0.15 * first


def test_numbers_are_standardised_on_the_train_split(numbers):
    family = ResidualMLP("diabetes", loss="log_cosh")
    parts = family.load()
    assert parts is family.load()
    np.testing.assert_allclose(parts["train"]["target"].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(parts["train"]["target"].std(), 1, rtol=1e-5)
    target = numbers["train"]["target"].astype(np.float64)
    expected = (numbers["test"]["target"] - target.mean()) / target.std()
    np.testing.assert_allclose(parts["test"]["target"], expected, rtol=1e-4)
    task = family.task((), jax.tree.map(jnp.asarray, parts))
    params = jax.tree.map(jnp.zeros_like, task.init(jax.random.key(0)))
    loss = task.loss(params, jax.random.key(0), task.whole("test"))
    np.testing.assert_allclose(loss, np.log(np.cosh(expected)).mean(), rtol=1e-5)


def test_bad_fields_are_named():
    with pytest.raises(ValueError, match="dataset: unknown name 'digits'"):
        ResidualMLP("digits")
    with pytest.raises(ValueError, match="loss: unknown name 'log_cosh'"):
        ResidualMLP("wine", loss="log_cosh")
    with pytest.raises(ValueError, match="loss: unknown name 'cross_entropy'"):
        ResidualMLP("diabetes")
    with pytest.raises(ValueError, match="depth: 0 is not allowed"):
        ResidualMLP(depth=0)
