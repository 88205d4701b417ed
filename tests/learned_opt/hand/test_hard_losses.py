"""Losses on which Adam in a rotated basis breaks unless it knows rounding from gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt import make
from tasks.families.flows import MAF

RULES = {
    "soap": lambda rate: make("soap", learning_rate=rate, weight_decay=0.0),
    "relative_soap": lambda rate: make("relative_soap", num_steps=200),
}


def losses(tx, start, loss, steps=200):
    """Before each of the steps; loss: (params, key) -> loss."""

    def step(carry, key):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, key)
        updates, state = tx.update(gradient, state, params)
        return (jax.tree.map(jnp.add, params, updates), state), value

    run = lambda params, keys: jax.lax.scan(step, (params, tx.init(params)), keys)[1]
    return np.asarray(jax.jit(run)(start, jax.random.split(jax.random.key(0), steps)))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("decades", [2, 4], ids="inputs_over_{}_decades".format)
def test_a_noiseless_regression_does_not_explode(rule, decades):
    generator = np.random.default_rng(0)
    scales = np.logspace(-decades / 2, decades / 2, 8)
    inputs = jnp.asarray(generator.normal(size=(64, 8)) * scales, jnp.float32)
    targets = inputs @ jnp.asarray(generator.normal(size=(8, 6)), jnp.float32)
    loss = lambda w, key: jnp.mean(jnp.square(inputs @ w - targets))
    found = losses(RULES[rule](0.1), jnp.zeros((8, 6)), loss)
    assert np.max(found) < 1.5 * found[0]
    assert found[-1] < 1e-2 * found[0]


@pytest.mark.parametrize("rule", RULES)
def test_a_masked_flow_trains(rule):
    family = MAF(image_size=4)
    data = jax.tree.map(jnp.asarray, family.load())
    task = family.task(family.sample(jax.random.key(0)), data)
    loss = lambda params, key: task.loss(params, key, task.batch(key, "train"))
    found = losses(RULES[rule](0.1), task.init(jax.random.key(1)), loss)
    assert np.all(np.isfinite(found))
    assert np.mean(found[-20:]) < found[0]


@pytest.mark.parametrize("rule", RULES)
def test_a_mixture_density_network_trains(rule):
    """Three normal distributions of y at each x, where y is x or -x."""
    generator = np.random.default_rng(0)
    x = generator.uniform(-1.0, 1.0, size=(64, 1))
    y = jnp.asarray(np.where(generator.random(x.shape) < 0.5, x, -x), jnp.float32)
    x = jnp.asarray(x, jnp.float32)
    drawn = lambda *shape: jnp.asarray(generator.normal(size=shape), jnp.float32)
    start = {"w": drawn(1, 16), "b": drawn(16), "readout": 0.25 * drawn(16, 9)}

    def loss(params, key):
        hidden = jnp.tanh(x @ params["w"] + params["b"])
        logits, means, log_scales = jnp.split(hidden @ params["readout"], 3, axis=1)
        square = jnp.square((y - means) * jnp.exp(-log_scales))
        logs = jax.nn.log_softmax(logits) - log_scales - 0.5 * square
        return -jnp.mean(jax.nn.logsumexp(logs, axis=1))

    found = losses(RULES[rule](0.01), start, loss)
    assert np.all(np.isfinite(found))
    assert np.mean(found[-20:]) < found[0] - 1.0
