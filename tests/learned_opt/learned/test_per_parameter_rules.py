"""mlp, feed_forward and star against their published numbers and implementations in NumPy."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.per_parameter import AdafactorOracle, clipped, network

from learned_opt.learned.feed_forward import PRESETS as FEED_FORWARD, FeedForward
from learned_opt.learned.mlp import MLP
from learned_opt.learned.small_fc import SmallFC
from learned_opt.learned.star import PRESETS as STAR, Star

SHAPES = [(), (3, 4)]
FF_TAUS = (3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e5)


def drawn(seed: int, *front: int) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.normal(size=(*front, *shape)).astype(np.float32) for shape in SHAPES]


def weights(rule: Any) -> Any:
    """Those of `init` with noise, so that biases and offsets are not 0."""
    draw = np.random.default_rng(3)
    theta = rule.init(jax.random.key(0))
    return jax.tree.map(lambda x: x + jnp.float32(0.1) * draw.normal(size=x.shape), theta)


def moves(rule: Any, theta: Any, gradients: list[np.ndarray], **start: Any) -> list[np.ndarray]:
    """The updates of every step, [steps, *shape] for each tensor."""
    tx = rule.opt(jax.tree.map(jnp.float32, theta), 100, **start)

    @jax.jit
    def run(params, gradients):
        def step(carry, gradients):
            params, state = carry
            updates, state = tx.update(gradients, state, params)
            return (optax.apply_updates(params, updates), state), updates

        return jax.lax.scan(step, (params, tx.init(params)), gradients)[1]

    return run([jnp.asarray(p) for p in drawn(1)], gradients)


def size(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def agree(rule: Any, oracle: Any, **start: Any) -> None:
    """Three steps, one with a zero gradient, as exact as float32 keeps 1 - 0.999."""
    theta, gradients = weights(rule), [g * [[3.0], [0.0], [0.1]] for g in drawn(2, 3, 1)]
    gradients = [
        g.reshape(3, *shape).astype(np.float32) for g, shape in zip(gradients, SHAPES, strict=True)
    ]
    found = moves(rule, theta, gradients, **start)
    w = {name: np.asarray(leaf, np.float64) for name, leaf in theta.items()}
    for got, param, gradient in zip(found, drawn(1), gradients, strict=True):
        want = np.stack(oracle(w, np.atleast_1d(param).astype(np.float64), gradient))
        assert np.abs(want).min(axis=0).max() > 0.0
        scale = np.abs(want).max()
        np.testing.assert_allclose(got / scale, want.reshape(got.shape) / scale, atol=5e-5)


def averages(gradient, decays, power):
    """Averages of g^power after every step, [steps][decays]."""
    kept, found = [np.zeros(gradient.shape[1:]) for _ in decays], []
    for g in gradient:
        kept = [b * m + (1 - b) * g**power for b, m in zip(decays, kept, strict=True)]
        found.append(kept)
    return found


@pytest.mark.parametrize(
    ("rule", "count"),
    [
        (MLP(), 1762),
        (FeedForward(), 1090),
        (FEED_FORWARD["repaired"], 1090),
        (Star(), 207),
        (Star(hidden=32), 2475),
    ],
)
def test_weight_counts(rule, count):
    assert size(jax.eval_shape(rule.init, jax.random.key(0))) == count


@pytest.mark.parametrize(
    ("rule", "floats"),
    [
        (MLP(), 6 * 600),
        (FEED_FORWARD["released"], 5 * 600),
        (FEED_FORWARD["repaired"], 10 * 600),
        (Star(), 4 * 600 + 3 * (20 + 30)),
    ],
)
def test_state_sizes(rule, floats):
    theta = jax.eval_shape(rule.init, jax.random.key(0))
    state = jax.eval_shape(lambda t: rule.opt(t, 1).init(jnp.zeros((20, 30))), theta)
    assert size(state) == floats + 1  # and the count of steps


def test_mlp_agrees_with_the_second_implementation():
    rule = MLP(hidden=9, exp_mult=0.3, step_mult=0.1)

    def oracle(w, p, gradient):
        gradient = clipped(gradient, (3, *p.shape))
        momenta = averages(gradient, (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999), 1)
        for t, (g, m) in enumerate(zip(gradient, momenta, strict=True)):
            out = network(w, [g, p, *m], t)
            yield (move := -0.1 * out[..., 0] * np.exp(0.3 * out[..., 1]))
            p = p + move

    agree(rule, lambda *seen: list(oracle(*seen)))


@pytest.mark.parametrize("dead", [True, False])
def test_feed_forward_agrees_with_the_second_implementation(dead):
    rule = FeedForward(hidden=9, exp_mult=0.3, step_mult=0.1, dead_rms=dead)
    decays = (0.5, 0.9, 0.99, 0.999, 0.9999)

    def oracle(w, p, gradient):
        gradient = clipped(gradient, (3, *p.shape))
        momenta, squares = (averages(gradient, decays, power) for power in (1, 2))
        for t, (g, m, v) in enumerate(zip(gradient, momenta, squares, strict=True)):
            v = [0.0 * x for x in v] if dead else v
            r = [(x + 1e-6) ** -0.5 for x in v]
            scaled = [a * b for a, b in zip(m, r, strict=True)]
            out = network(w, [g, *scaled, p, *m, *v, *r], t, FF_TAUS)
            yield (move := -0.1 * out[..., 0] * np.exp(0.3 * out[..., 1]))
            p = p + move

    agree(rule, lambda *seen: list(oracle(*seen)))


DIRECTIONS = {
    "sgd": lambda g, m, inverse: g,
    "sgdm": lambda g, m, inverse: m[2],
    "aggmo": lambda g, m, inverse: (m[0] + m[1] + m[2]) / 3,
    "adam": lambda g, m, inverse: m[2] * inverse,
    "adam_aggmo": lambda g, m, inverse: (m[0] + m[1] + m[2]) / 3 * inverse,
}
PLAIN = Star(hidden=9, exp_mult=0.3, step_mult=0.1, nominal_exp_mult=0.2, decay_exp_mult=0.4)


@pytest.mark.parametrize(
    "chosen",
    [
        {"nominal": "sgd", "average_magnitudes": True},
        {"nominal": "sgdm", "precondition": True},
        {"nominal": "aggmo", "steer_decay": False},
        {"nominal": "adam", "steer_nominal": False},
        {"nominal": "adam_aggmo", "learning_rate": 0.2},
    ],
    ids=DIRECTIONS,
)
def test_star_agrees_with_the_second_implementation(chosen):
    start = {"learning_rate": chosen["learning_rate"]} if "learning_rate" in chosen else {}
    fields = {name: value for name, value in chosen.items() if name != "learning_rate"}
    rule = replace(PLAIN, nominal_rate=0.05, weight_decay=0.01, **fields)
    stretch = 2.0 if start else 1.0

    def oracle(w, p, gradient):
        one = AdafactorOracle(w, p)
        for g in gradient:
            out = network(w, one.features(g), one.t)
            direction, size, nominal, decay = (out[..., i] for i in range(4))
            if rule.average_magnitudes:
                size, nominal, decay = size.mean(), nominal.mean(), decay.mean()
            nominal = nominal if rule.steer_nominal else 1.0
            decay = decay if rule.steer_decay else 0.0
            learned = 0.1 * direction * np.exp(0.3 * size)
            learned = learned * one.inverse if rule.precondition else learned
            u = DIRECTIONS[rule.nominal](clipped(g, p.shape), one.m, one.inverse)
            move = -stretch * (learned + 0.05 * np.exp(0.2 * nominal) * u)
            move = move - 0.01 * np.exp(0.4 * decay) * one.p
            one.p, one.t = one.p + move, one.t + 1
            yield move

    agree(rule, lambda *seen: list(oracle(*seen)), **start)


def test_star_without_its_additions_is_small_fc():
    theta = weights(PLAIN)
    narrow = theta | {"w2": theta["w2"][:, :2], "b2": theta["b2"][:2]}
    small = SmallFC(hidden=9, exp_mult=0.3, step_mult=0.1)
    gradients = drawn(5, 3)
    pairs = zip(moves(PLAIN, theta, gradients), moves(small, narrow, gradients), strict=True)
    for got, want in pairs:
        np.testing.assert_allclose(got, want, rtol=1e-6)
    assert STAR["plain"] == Star() and Star().nominal_rate == Star().weight_decay == 0.0


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (MLP, {"hidden": 0}),
        (FeedForward, {"step_mult": -1.0}),
        (Star, {"weight_decay": -0.1}),
        (Star, {"nominal_rate": float("nan")}),
    ],
)
def test_refuses_what_cannot_be(kind, wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name}: {value} is not allowed"):
        kind(**wrong)
