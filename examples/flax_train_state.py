"""A learned optimizer in a flax TrainState: a variational autoencoder of noisy rings.

TrainState.apply_gradients drops extra arguments; the subclass below forwards value= and knows which
parameters to evaluate.

    python examples/flax_train_state.py [a name | a weight file | a run folder]

Names are those of `learned-opt list pretrained` and `learned-opt list optimizers`; without one it
is the default of learned_opt.load.
"""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.training.train_state import TrainState

import learned_opt


class LearnedTrainState(TrainState):
    def apply_gradients(self, *, grads, value, **changes):
        updates, opt_state = self.tx.update(grads, self.opt_state, self.params, value=value)
        params = optax.apply_updates(self.params, updates)
        return self.replace(step=self.step + 1, params=params, opt_state=opt_state, **changes)

    @property
    def eval_params(self):
        return learned_opt.eval_params(self.opt_state, self.params)


class VAE(nn.Module):
    @nn.compact
    def __call__(self, x, key):
        mean, log_var = jnp.split(nn.Dense(4)(nn.tanh(nn.Dense(32)(x))), 2, axis=-1)
        code = mean + jnp.exp(log_var / 2) * jax.random.normal(key, mean.shape)
        return nn.Dense(x.shape[-1])(nn.tanh(nn.Dense(32)(code))), mean, log_var


def rings(key, size=64):
    angle = jax.random.uniform(key, (size, 1), maxval=2 * jnp.pi)
    harmonics = angle * jnp.arange(1, 5)
    return jnp.concatenate([jnp.cos(harmonics), jnp.sin(harmonics)], axis=-1)


def main(name=None, num_steps=300):
    model = VAE()
    key = jax.random.key(0)
    state = LearnedTrainState.create(
        apply_fn=model.apply,
        params=model.init(key, rings(key), key)["params"],
        tx=learned_opt.load(name, num_steps=num_steps),
    )

    def loss(params, x, key):
        """Negative evidence bound per point, up to a constant; unit noise scaled by 0.1."""
        guess, mean, log_var = model.apply({"params": params}, x, key)
        divergence = 0.5 * jnp.sum(mean**2 + jnp.exp(log_var) - 1 - log_var, axis=-1)
        return jnp.mean(jnp.sum((guess - x) ** 2, axis=-1) / 0.02 + divergence)

    @jax.jit
    def step(state, key):
        value, grads = jax.value_and_grad(loss)(state.params, rings(key), key)
        return state.apply_gradients(grads=grads, value=value), value

    losses = []
    for i, key in enumerate(jax.random.split(jax.random.key(1), num_steps)):
        state, value = step(state, key)
        losses.append(float(value))
        if i % max(1, num_steps // 10) == 0:
            print(f"step {i:4}  loss {value:.3f}")
    print(f"new points: loss {loss(state.eval_params, rings(key, 512), key):.3f}")
    return losses


if __name__ == "__main__":
    main(*sys.argv[1:2])
