import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.cells import CELLS, recurrent_init, recurrent_outputs


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def outputs_in_numpy(cell, layer, x):
    hidden = layer["recurrent"]["weight"].shape[0]
    h, memory = (*layer.get("start", np.zeros((2, hidden))), np.zeros(hidden))[:2]
    outputs = []
    for row in x @ layer["input"]:
        r = h @ layer["recurrent"]["weight"] + layer["recurrent"]["bias"]
        if cell == "vanilla":
            h = np.tanh(row + r)
        elif cell == "gru":
            (xr, xu, xn), (hr, hu, hn) = np.split(row, 3), np.split(r, 3)
            u = sigmoid(xu + hu)
            h = u * h + (1 - u) * np.tanh(xn + sigmoid(xr + hr) * hn)
        else:
            i, f, g, o = np.split(row + r, 4)
            memory = sigmoid(f + 1) * memory + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(memory)
        outputs.append(h)
    return np.array(outputs)


@pytest.mark.parametrize("trainable_start", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_outputs_against_a_loop_in_numpy(cell, trainable_start):
    keys = jax.random.split(jax.random.key(0), 5)
    layer = recurrent_init((keys[0], keys[1]), cell, 3, 4, 0.8, trainable_start)
    assert ("start" in layer) == trainable_start
    layer["recurrent"]["bias"] = jax.random.normal(keys[2], layer["recurrent"]["bias"].shape)
    if trainable_start:
        np.testing.assert_array_equal(layer["start"], 0)
        layer["start"] = jax.random.normal(keys[3], layer["start"].shape)
    x = jax.random.normal(keys[4], (6, 2, 3))
    found = jax.jit(recurrent_outputs, static_argnums=2)(layer, x, cell)
    exact = jax.tree.map(np.float64, layer)
    expected = [outputs_in_numpy(cell, exact, np.float64(x[:, i])) for i in range(2)]
    np.testing.assert_allclose(found, np.stack(expected, 1), rtol=1e-4, atol=1e-6)


def test_the_scale_multiplies_every_starting_weight():
    keys = jax.random.split(jax.random.key(0))
    once, thrice = (recurrent_init((keys[0], keys[1]), "lstm", 2, 3, scale) for scale in (1.0, 3.0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(3 * a, b, rtol=1e-6), once, thrice)
    assert jnp.std(recurrent_init((keys[0], keys[1]), "gru", 400, 25)["input"]) == pytest.approx(
        0.05, rel=0.05
    )
