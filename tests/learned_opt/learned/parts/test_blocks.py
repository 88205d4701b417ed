"""Large tensors go through block by block: the same rule, the same derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.columns import Columns
from learned_opt.learned.hierarchical_rnn import PRESETS
from learned_opt.learned.parts import blocks
from learned_opt.learned.parts.blocks import over_columns
from learned_opt.learned.parts.features import arcsinh

# A tensor of several blocks with a rest, several tensors to a block with a rest, small ones.
SHAPES = [(3,), (7, 3), (43,), (3, 7), (), (21,), (7, 3), (3,), (21, 1)]


def tree(seed):
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    return [jax.random.normal(key, shape) for key, shape in zip(keys, SHAPES, strict=True)]


def mixing(weights, rows, above):
    """A column function whose every part matters."""
    x, row = rows
    new = jnp.tanh(weights[:, None] * x + above[:1]) * row
    return (new, row - above[1]), [jnp.square(x), (new * above[1])[:1]]


def test_block_by_block_as_at_once(monkeypatch):
    columns = Columns.of(tree(0))
    x = jax.random.normal(jax.random.key(1), (2, columns.total))
    above = jax.random.normal(jax.random.key(2), (2, len(SHAPES)))
    weights = jnp.array([0.5, -1.5])

    def value(weights, x, above):
        made = over_columns(mixing, columns, weights, (x, jnp.sin(x[0])), above)
        return sum(jnp.sum(jnp.sin(leaf) ** 2) for leaf in jax.tree.leaves(made)), made

    def found():
        # Functions of their own, since what is traced once is kept.
        slopes = jax.grad(lambda *args: value(*args)[0], (0, 1, 2))
        return jax.jit(lambda *args: (value(*args), slopes(*args)))(weights, x, above)

    want = found()
    for block in (8, 50):
        monkeypatch.setattr(blocks, "BLOCK", block)
        jax.tree.map(close, found(), want)


@pytest.mark.slow
def test_the_rule_moves_alike_block_by_block(monkeypatch):
    rule, params, gradient = PRESETS["nominal"], tree(1), tree(2)
    tx = rule.opt(rule.init(jax.random.key(0)), 50)
    at_once = jax.jit(tx.update)(gradient, tx.init(params), params)
    monkeypatch.setattr(blocks, "BLOCK", 16)
    jax.tree.map(
        close, jax.jit(lambda *a: tx.update(*a))(gradient, tx.init(params), params), at_once
    )


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_the_program_does_not_grow_with_depth():
    rule = PRESETS["nominal"]
    theta = rule.init(jax.random.key(0))

    def products(depth):
        params = [
            jnp.ones(shape) for shape in ((128, 128), (128,), (64, 256)) for _ in range(depth)
        ]
        tx = rule.opt(theta, 50)
        text = jax.jit(tx.update).lower(params, tx.init(params), params).as_text()
        return text.count("dot_general"), text.count("stablehlo.while")

    assert products(2) == products(9)


def test_arcsinh():
    size = np.concatenate([[0.0], np.logspace(-30, 17, 400)]).astype(np.float32)
    x = np.concatenate([-size, size])
    np.testing.assert_allclose(
        arcsinh(jnp.array(x)), np.arcsinh(x.astype(np.float64)), rtol=1e-6, atol=0
    )
    assert arcsinh(jnp.float32(1e30)) == arcsinh(jnp.float32(1e18))
    slopes = jax.vmap(jax.grad(arcsinh))(jnp.array([0.0, -2.0, 1e-9]))
    np.testing.assert_allclose(slopes, [1.0, 5.0**-0.5, 1.0], rtol=1e-6)
