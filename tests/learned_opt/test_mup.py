"""With muP's multipliers a learned step does as much at any width."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt import mup
from learned_opt.learned.small_fc import SmallFC

BASE = 16


def shapes(width: int) -> dict[str, jax.ShapeDtypeStruct]:
    sizes = {"first": (8, width), "bias": (width,), "middle": (width, width), "last": (width, 3)}
    return {name: jax.ShapeDtypeStruct(size, jnp.float32) for name, size in sizes.items()}


def conv(width: int) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct((3, 3, i, width), jnp.float32) for i in (1, width)]


def test_multipliers_against_a_base_width():
    found = mup.multipliers(shapes(64), base=shapes(BASE))
    assert found == {"first": 1.0, "bias": 1.0, "middle": 0.25, "last": 0.25}
    found = mup.multipliers(shapes(64), base=shapes(BASE), scaled_logits=True, relative=True)
    assert found == {"first": 1.0, "bias": 1.0, "middle": 0.5, "last": 1.0}
    assert mup.multipliers(conv(64), base=conv(32)) == [1.0, 0.5]
    assert set(mup.multipliers(shapes(9), base=shapes(9)).values()) == {1.0}


def test_multipliers_by_the_kinds_of_layers():
    kinds = {"first": "input", "bias": "vector", "middle": "hidden", "last": "output"}
    found = mup.multipliers(shapes(64), kinds=kinds)
    assert found == {"first": 1.0, "bias": 1.0, "middle": 1 / 64, "last": 1 / 64}
    found = mup.multipliers(shapes(64), kinds=kinds, scaled_logits=True)
    assert found["last"] == 1.0
    assert mup.multipliers(conv(10), kinds=["input", "hidden"]) == [1.0, 1 / 90]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give one of them"),
        ({"base": shapes(2), "kinds": shapes(2)}, "give one of them"),
        ({"base": {"first": 1}}, "base: .* is not the tree"),
        ({"base": shapes(2) | {"bias": shapes(2)["last"]}}, "base, bias: .* another rank"),
        (
            {"kinds": dict.fromkeys(shapes(2), "hiden")},
            "kinds, bias: unknown name 'hiden'; did you mean hidden?",
        ),
        ({"kinds": dict.fromkeys(shapes(2), "hidden")}, r"kinds, bias: .* \(4,\) is a vector"),
    ],
)
def test_refuses_what_does_not_fit(given, message):
    with pytest.raises(ValueError, match=message):
        mup.multipliers(shapes(4), **given)


def test_updates_are_scaled_in_their_own_dtype():
    tx = mup.scale_by({"a": 0.25, "b": 1.0})
    updates: Any = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(1)}
    scaled: Any = tx.update(updates, tx.init(updates))[0]
    assert scaled["a"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(scaled["a"].astype(jnp.float32), 0.25)
    np.testing.assert_array_equal(scaled["b"], 1.0)


def along_the_gradient(rule: SmallFC) -> Any:
    """Weights with which it moves along the gradient times Adafactor's factors, and at random."""
    drawn: Any = rule.init(jax.random.key(0))
    theta = {name: 0.05 * leaf for name, leaf in drawn.items()}
    for layer, pairs in (("w0", ((10, 0, 1), (10, 1, -1))), ("w1", ((0, 0, 1), (1, 1, 1)))):
        for i, j, value in pairs:
            theta[layer] = theta[layer].at[i, j].add(value)
    return theta | {"w2": theta["w2"].at[0, 0].add(1.0).at[1, 0].add(-1.0)}


def hidden_change(width: int, scaled: list[bool]) -> list[float]:
    """Root mean square of what five steps change in the second layer of a tanh network."""
    rule = SmallFC(hidden=9, step_mult=0.005)
    draw = np.random.default_rng(0)
    x, y = (jnp.asarray(draw.normal(size=(16, n)), jnp.float32) for n in (8, 3))
    start = {
        name: jnp.asarray(draw.normal(size=leaf.shape) / leaf.shape[0] ** 0.5, jnp.float32)
        for name, leaf in shapes(width).items()
    }
    start |= {"bias": jnp.zeros(width), "last": jnp.zeros((width, 3))}
    by_width = mup.multipliers(start, base=shapes(BASE))

    def layers(params):
        second = jnp.tanh(x @ params["first"] + params["bias"]) @ params["middle"]
        return second, jnp.tanh(second) @ params["last"]

    @jax.jit
    def run(multipliers):
        tx = optax.chain(rule.opt(along_the_gradient(rule), 10), mup.scale_by(multipliers))

        def step(carry, _):
            params, state = carry
            slope = jax.grad(lambda p: jnp.sum((layers(p)[1] - y) ** 2))(params)
            updates, state = tx.update(slope, state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (start, tx.init(start)), length=5)
        return jnp.sqrt(jnp.mean((layers(params)[0] - layers(start)[0]) ** 2))

    ones = jax.tree.map(jnp.ones_like, by_width)
    return [float(run(jax.tree.map(jnp.float32, by_width) if mu else ones)) for mu in scaled]


def test_a_learned_step_does_as_much_at_any_width():
    """From 16 to 256 units: without multipliers it does 4 times as much, by where tanh bends."""
    (narrow,) = hidden_change(BASE, [False])
    wide, wide_without = hidden_change(256, [True, False])
    assert 0.8 < wide / narrow < 1.25
    assert wide_without / narrow > 3.0
