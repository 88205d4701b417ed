"""The packaged weights in hand-written loops, on networks that no task family here contains."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import learned_opt

STEPS = 300


def weights(key, *shape):
    return jax.random.normal(key, shape) * np.prod(shape[:-1]) ** -0.5


def transformer():
    """One block that learns to say the symbol before the last one."""
    names = ("embed", "position", "query", "key", "value", "mix", "up", "down", "out")
    shapes = ((8, 16), (10, 16), *((16, 16),) * 4, (16, 32), (32, 16), (16, 8))
    keys = dict(zip(names, jax.random.split(jax.random.key(0), len(names)), strict=True))
    params = {n: weights(keys[n], *s) for n, s in zip(names, shapes, strict=True)}
    params["gain"] = jnp.ones(16)

    def loss(params, key):
        symbols = jax.random.randint(key, (16, 10), 0, 8)
        x = params["embed"][symbols] + params["position"]
        h = params["gain"] * x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)
        q, k, v = (h @ params[n] for n in ("query", "key", "value"))
        scores = jnp.where(jnp.tri(10, dtype=bool), q @ k.swapaxes(1, 2) / 4.0, -1e9)
        x = x + jax.nn.softmax(scores) @ v @ params["mix"]
        x = x + jax.nn.gelu(x @ params["up"]) @ params["down"]
        logits = (x @ params["out"])[:, 1:]
        return optax.softmax_cross_entropy_with_integer_labels(logits, symbols[:, :-1]).mean()

    return params, loss


def autoencoder():
    """A variational autoencoder of points on a ring."""
    keys = jax.random.split(jax.random.key(1), 4)
    params = {
        "encode": {"w": weights(keys[0], 2, 32), "b": jnp.zeros(32)},
        "latent": {"w": weights(keys[1], 32, 4), "b": jnp.zeros(4)},
        "decode": {"w": weights(keys[2], 2, 32), "b": jnp.zeros(32)},
        "point": {"w": weights(keys[3], 32, 2), "b": jnp.zeros(2)},
    }

    def dense(layer, x):
        return x @ layer["w"] + layer["b"]

    def loss(params, key):
        angle_key, noise_key = jax.random.split(key)
        angle = jax.random.uniform(angle_key, (64,), maxval=2 * jnp.pi)
        x = jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1)
        mean, log_var = jnp.split(
            dense(params["latent"], jnp.tanh(dense(params["encode"], x))), 2, axis=1
        )
        z = mean + jnp.exp(0.5 * log_var) * jax.random.normal(noise_key, mean.shape)
        error = dense(params["point"], jnp.tanh(dense(params["decode"], z))) - x
        kl = 0.5 * jnp.sum(jnp.exp(log_var) + mean**2 - 1.0 - log_var, 1)
        return jnp.mean(50.0 * jnp.sum(error**2, 1) + kl)

    return params, loss


def convolution():
    """Which of four bars crosses a noisy image."""
    keys = jax.random.split(jax.random.key(2), 3)
    params = [weights(keys[0], 3, 3, 1, 8), weights(keys[1], 3, 3, 8, 8), weights(keys[2], 8, 4)]

    def loss(params, key):
        label_key, noise_key = jax.random.split(key)
        label = jax.random.randint(label_key, (32,), 0, 4)
        lines = jnp.stack(
            [jnp.eye(8), jnp.eye(8)[::-1], jnp.eye(8)[3] + jnp.zeros((8, 8)), jnp.ones((8, 8)) / 4]
        )
        x = (lines[label] + 0.3 * jax.random.normal(noise_key, (32, 8, 8)))[..., None]
        for kernel in params[:2]:
            x = jax.nn.relu(
                jax.lax.conv_general_dilated(
                    x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
            )
        logits = x.mean((1, 2)) @ params[2]
        return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

    return params, loss


def pairs(networks):
    """All networks with one rule, the first of them with all; the other pairs are slow."""
    return [
        pytest.param(network, name, marks=[pytest.mark.slow] * (i > 0 and j > 0))
        for i, network in enumerate(networks)
        for j, name in enumerate(learned_opt.packaged())
    ]


@pytest.mark.parametrize(("network", "name"), pairs([transformer, autoencoder, convolution]))
def test_plain_loops_learn_and_trace_once(name, network):
    params, loss_fn = network()
    tx = learned_opt.load(name, num_steps=STEPS)
    state, traces, losses = tx.init(params), [], []

    @jax.jit
    def step(params, state, key):
        traces.append(1)
        value, grads = jax.value_and_grad(loss_fn)(params, key)
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state, value

    for i in range(STEPS):
        params, state, value = step(params, state, jax.random.key(i))
        losses.append(float(value))
    assert len(traces) == 1
    assert np.isfinite(losses).all()
    assert np.mean(losses[-20:]) < np.mean(losses[:5])
    assert max(losses) < 3.0 * losses[0]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (i > 0))
        for i, name in enumerate(learned_opt.packaged())
    ],
)
def test_nnx_loop_learns_and_traces_once(name):
    class Network(nnx.Module):
        def __init__(self, rngs):
            self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
            self.norm = nnx.LayerNorm(8, rngs=rngs)
            self.out = nnx.Linear(8, 1, rngs=rngs)

        def __call__(self, x):
            return self.out(self.norm(x + self.attention(x)).mean(1))[:, 0]

    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, learned_opt.load(name, num_steps=STEPS), wrt=nnx.Param)
    traces, losses = [], []

    @nnx.jit
    def step(model, optimizer, x):
        traces.append(1)
        loss = lambda model: jnp.mean((model(x) - x.max((1, 2))) ** 2)
        value, grads = nnx.value_and_grad(loss)(model)
        optimizer.update(model, grads, value=value)
        return value

    for i in range(STEPS):
        losses.append(
            float(step(model, optimizer, jax.random.normal(jax.random.key(i), (32, 5, 8))))
        )
    assert len(traces) == 1
    assert np.isfinite(losses).all() and np.mean(losses[-20:]) < np.mean(losses[:5])
