"""A learned optimizer under flax.nnx.Optimizer: a small convolution tells stripes apart.

python examples/flax_nnx.py [a name | a weight file | a run folder]

Names are those of `learned-opt list pretrained` and `learned-opt list optimizers`; without one it
is the default of learned_opt.load.
"""

import sys

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import learned_opt


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 8, (3, 3), strides=2, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.read = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, images):
        x = nnx.relu(self.norm(self.conv(images)))
        return self.read(x.mean(axis=(1, 2)))


def batch(key, size=64):
    """8x8 images of noisy stripes in one of four directions."""
    label_key, phase_key, noise_key = jax.random.split(key, 3)
    labels = jax.random.randint(label_key, (size,), 0, 4)
    angle = (labels * jnp.pi / 4)[:, None, None]
    rows, columns = jnp.mgrid[:8, :8]
    phase = jax.random.uniform(phase_key, (size, 1, 1), maxval=2 * jnp.pi)
    images = jnp.sin(1.5 * (rows * jnp.cos(angle) + columns * jnp.sin(angle)) + phase)
    return (images + 0.3 * jax.random.normal(noise_key, images.shape))[..., None], labels


def main(name=None, num_steps=300):
    model = Net(nnx.Rngs(0))
    tx = learned_opt.load(name, num_steps=num_steps)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, key):
        images, labels = batch(key)

        def loss(model):
            each = optax.softmax_cross_entropy_with_integer_labels(model(images), labels)
            return each.mean()

        value, gradients = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradients, value=value)  # value= reaches the learned rule
        return value

    losses = []
    for i, key in enumerate(jax.random.split(jax.random.key(1), num_steps)):
        losses.append(float(step(model, optimizer, key)))
        if i % max(1, num_steps // 10) == 0:
            print(f"step {i:4}  loss {losses[-1]:.4f}")
    images, labels = batch(jax.random.key(2), 512)
    accuracy = float((model(images).argmax(axis=-1) == labels).mean())
    print(f"new images: {accuracy:.1%} right (guessing: 25%)")
    return losses


if __name__ == "__main__":
    main(*sys.argv[1:2])
