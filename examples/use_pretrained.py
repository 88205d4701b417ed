"""A learned optimizer in a hand-written optax loop: a transformer block learns to add digits.

python examples/use_pretrained.py [a name | a weight file | a run folder]

Names are those of `learned-opt list pretrained` and `learned-opt list optimizers`; without one it
is the default of learned_opt.load.
"""

import sys

import jax
import jax.numpy as jnp
import optax

import learned_opt

MODULUS, WIDTH, LENGTH, BATCH = 7, 32, 8, 64


def init(key):
    names = ("embed", "place", "query", "key", "value", "out", "up", "down", "read")
    shapes = [(MODULUS, WIDTH), (LENGTH, WIDTH), *[(WIDTH, WIDTH)] * 4]
    shapes += [(WIDTH, 2 * WIDTH), (2 * WIDTH, WIDTH), (WIDTH, MODULUS)]
    keys = jax.random.split(key, len(names))
    draw = {
        name: jax.random.normal(k, shape) / jnp.sqrt(shape[0])
        for name, k, shape in zip(names, keys, shapes, strict=True)
    }
    return draw | {"gain": jnp.ones((2, WIDTH))}


def normalise(x, gain):
    return gain * x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)


def logits(params, tokens):
    x = params["embed"][tokens] + params["place"]
    y = normalise(x, params["gain"][0])
    scores = (y @ params["query"]) @ jnp.swapaxes(y @ params["key"], -1, -2) / jnp.sqrt(WIDTH)
    seen = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))
    attention = jax.nn.softmax(jnp.where(seen, scores, -1e9))
    x = x + attention @ (y @ params["value"]) @ params["out"]
    y = normalise(x, params["gain"][1])
    return (x + jax.nn.gelu(y @ params["up"]) @ params["down"]) @ params["read"]


def loss(params, tokens):
    """At every place, the sum of this digit and the one before it, modulo 7."""
    target = (tokens + jnp.roll(tokens, 1, axis=-1)) % MODULUS
    each = optax.softmax_cross_entropy_with_integer_labels(logits(params, tokens), target)
    return each[:, 1:].mean()


def main(name=None, num_steps=400):
    tx = learned_opt.load(name, num_steps=num_steps)
    params = init(jax.random.key(0))
    state = tx.init(params)

    @jax.jit
    def step(params, state, key):
        tokens = jax.random.randint(key, (BATCH, LENGTH), 0, MODULUS)
        value, gradients = jax.value_and_grad(loss)(params, tokens)
        updates, state = tx.update(gradients, state, params, value=value)
        return optax.apply_updates(params, updates), state, value

    losses = []
    for i, key in enumerate(jax.random.split(jax.random.key(1), num_steps)):
        params, state, value = step(params, state, key)
        losses.append(float(value))
        if i % max(1, num_steps // 10) == 0:
            print(f"step {i:4}  loss {value:.4f}")
    tokens = jax.random.randint(jax.random.key(2), (512, LENGTH), 0, MODULUS)
    final = float(loss(learned_opt.eval_params(state, params), tokens))
    print(f"new sequences: loss {final:.4f} (guessing: {jnp.log(MODULUS):.4f})")
    return [*losses, final]


if __name__ == "__main__":
    main(*sys.argv[1:2])
