"""Corrections to a hand-made rule: the anchor itself, the whole rule in NumPy, invariances."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.local_rules import LocalOracle

from learned_opt.learned.anchored_mlp import AnchoredMLP

SHAPES = [(), (3,), (2, 3), (2, 1, 3), (2, 3, 2, 2)]
HORIZON, STEPS = 8, 10
RULE = AnchoredMLP(hidden=3, scheduler_hidden=2)


def size_of(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def tree(seed: int) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    return [jax.random.normal(key, shape) for key, shape in zip(keys, SHAPES, strict=True)]


def weights(rule: AnchoredMLP):
    """Biases that are not 0 and readouts that matter."""
    theta = rule.init(jax.random.key(1))
    leaves, treedef = jax.tree.flatten(theta)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    return treedef.unflatten(
        leaf + 0.3 * jax.random.normal(key, leaf.shape)
        for key, leaf in zip(keys, leaves, strict=True)
    )


@partial(jax.jit, static_argnums=0)
def run(rule, theta, unit, values):
    """STEPS updates with gradients in `unit`, then with no value given; parameters move along."""
    tx = rule.opt(theta, HORIZON)

    def step(carry, seen):
        params, state = carry
        i, value = seen
        gradients = jax.tree.map(lambda p: unit * jnp.sin(3.0 * p + i), params)
        updates, state = tx.update(gradients, state, params, value=value)
        return (optax.apply_updates(params, updates), state), updates

    carry = (tree(0), tx.init(tree(0)))
    return jax.lax.scan(step, carry, (jnp.arange(1.0 * STEPS), values))[1]


def losses(unit: float = 1.0):
    return unit * (3.0 - 0.2 * jnp.arange(1.0 * STEPS) + jnp.sin(jnp.arange(1.0 * STEPS)))


def test_weight_counts_and_state_sizes():
    theta = AnchoredMLP().init(jax.random.key(0))
    assert {name: size_of(theta[name]) for name in theta} == {
        "param_hidden": 320,
        "param_readout": 18,
        "scheduler_hidden": 704,
        "scheduler_readout": 68,
    }
    state = AnchoredMLP().opt(theta, 10).init({"w": jnp.ones((4, 5)), "b": jnp.ones(6)})
    assert size_of(state.tensors) == 4 * 26 and size_of(state.squares) == 26
    assert size_of(state.factored) == 3 * (4 + 5) + 3 * 6
    assert size_of(state) == 5 * 26 + size_of(state.factored) + 2 + 30 + 2


class OneTensor(LocalOracle):
    """One tensor over `relative_adam`: what scheduler and network read of it, and its step."""

    def __init__(self, theta, param):
        super().__init__(param, 0.99)
        self.w = jax.tree.map(lambda x: np.asarray(x, np.float64), theta)
        self.agreement, self.means, self.lowest = 0.0, np.zeros(10), np.full(10, np.inf)

    def progress(self, loss):
        d = np.exp(-1.0 / np.logspace(1.0, np.log10(HORIZON), 10))
        n = self.t + 1
        cap = 2.0 * np.abs(self.means / (1.0 - d**n)).max() if self.t else loss
        self.means = d * self.means + (1.0 - d) * min(cap, loss)
        now = self.means / (1.0 - d**n)
        self.lowest = np.minimum(self.lowest, now)
        low = self.lowest[:-1]
        found = np.clip((now[:-1] - low) / np.maximum(now[1:] - low, 1e-8) - 1.0, -1.0, 1.0)
        return found if n > 2 else np.zeros(9)

    def step(self, g, loss):
        progress = self.progress(loss)
        g = np.asarray(g, np.float64).reshape(self.p.shape)
        before = self.m[0]
        self.remember(g)
        n = self.t + 1
        square = self.v / (1 - self.b2**n)
        inverse = 1.0 / np.sqrt(square)
        u = [self.m[0] / (1 - 0.9**n) * inverse, self.m[1] / (1 - 0.99**n) * inverse, g * inverse]
        rms = [np.sqrt(np.mean(x**2)) for x in u]
        last = before * inverse
        cosine = np.mean(u[2] * last) / (rms[2] * np.sqrt(np.mean(last**2) + 1e-12))
        self.agreement = 0.95 * self.agreement + 0.05 * cosine
        size = max(np.sqrt(np.mean(self.p**2)), 0.05)
        left = np.tanh(
            10.0
            * (
                min(self.t / HORIZON, 1.0)
                - np.array([0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1])
            )
        )
        tensor = [0.2 * np.log(self.p.size) - 1.0, float(not self.matrix), 0.5 * np.log(size)]
        tensor += [*(np.log(x + 1e-3) for x in rms), self.agreement]
        x = np.concatenate([left, [0.2 * np.log(HORIZON) - 1.0], progress, tensor])
        for layer in ("first", "second"):
            w = self.w["scheduler_hidden"][layer]
            x = np.tanh(x @ w["w"] + w["b"])
        w = self.w["scheduler_readout"]
        log_step, *mixing = x @ w["w"] + w["b"]
        x = self.inputs(g, np.sqrt(np.mean(square)))
        for layer in ("first", "second"):
            w = self.w["param_hidden"][layer]
            x = np.maximum(x @ w["w"][: x.shape[-1]] + w["b"], 0.0)
        w = self.w["param_readout"]
        said = x @ w["w"] + w["b"]
        direction = u[0] + rms[0] * said[..., 0] / np.sqrt(1 + said[..., 0] ** 2)
        direction = direction + sum(c * x for c, x in zip(mixing, u, strict=True))
        stretch = size * np.exp(np.clip(log_step + said[..., 1], -2.0, 1.5))
        past = 0.02 + 0.98 * (1 + np.cos(np.pi * (self.t - 1) / (HORIZON - 1))) / 2
        schedule = 1.0 if self.t == 0 else past if self.t < HORIZON else 0.02
        step = -0.1 * schedule * stretch * direction
        self.p, self.t = self.p + step, self.t + 1
        return step


def test_agrees_with_the_second_implementation():
    theta, values = weights(RULE), losses()
    seen = run(RULE, theta, 1.0, values)
    for param, updates in zip(tree(0), seen, strict=True):
        other = OneTensor(theta, param)
        for i in range(STEPS):
            want = other.step(np.sin(3.0 * other.p + i), float(values[i]))
            np.testing.assert_allclose(
                updates[i], want.reshape(param.shape), rtol=5e-3, atol=2e-5 * np.abs(want).max()
            )


def test_no_unit_of_the_loss_shows():
    theta = weights(RULE)
    for unit in (1e-6, 1e6):
        for one, other in zip(
            run(RULE, theta, 1.0, losses()), run(RULE, theta, unit, losses(unit)), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-4)


def test_losses_that_are_not_given_or_not_finite_count_as_none():
    theta, params = weights(RULE), {"w": jnp.ones((2, 3))}
    gradients = {"w": jnp.arange(6.0).reshape(2, 3) - 2.0}
    tx = RULE.opt(theta, HORIZON)

    @jax.jit
    def steps(**given):
        state = tx.init(params)
        for _ in range(4):
            updates, state = tx.update(gradients, state, params, **given)
        return updates["w"], state.held

    without, held = steps()
    assert int(held) == 0
    np.testing.assert_allclose(without, steps(value=jnp.float32(np.nan))[0], rtol=1e-5)
    assert not np.array_equal(without, steps(value=jnp.float32(1.0))[0])


@pytest.mark.parametrize(
    "wrong",
    [{"hidden": 0}, {"scheduler_hidden": -1}, {"learning_rate": 0.0}, {"learning_rate": np.inf}],
)
def test_refuses_what_cannot_be(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name}: {value} is not allowed"):
        AnchoredMLP(**wrong)
