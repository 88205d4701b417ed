"""Celo2 against its published numbers and a second implementation."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.local_rules import LocalOracle

import learned_opt
from learned_opt.learned.celo2 import PRESETS, Celo2, orthogonalised

SHAPES = {"scale": (), "dense/bias": (3,), "dense/kernel": (2, 3), "embedding": (3, 2)}
SHAPES |= {"tall": (2, 1, 3, 2)}
HORIZON, STEPS, RATE, DECAY = 40, 6, 0.01, 0.1
RULES = {
    name: Celo2(
        hidden=3,
        orthogonalise=preset.orthogonalise,
        adam_paths=preset.adam_paths,
        weight_decay=DECAY,
        learning_rate=RATE,
        schedule="warmup_cosine",
    )
    for name, preset in PRESETS.items()
}


def tree(seed: int = 0):
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    return {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, SHAPES.items(), strict=True)}


def weights(rule: Celo2):
    """With biases that are not 0."""
    theta = rule.init(jax.random.key(1))
    keys = jax.random.split(jax.random.key(2), len(theta))
    return {
        name: leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for key, (name, leaf) in zip(keys, theta.items(), strict=True)
    }


@partial(jax.jit, static_argnums=0)
def run(rule, theta, unit):
    """The updates of a few steps with gradients in `unit`."""
    tx = rule.opt(theta, HORIZON)

    def step(carry, i):
        params, state = carry
        gradients = jax.tree.map(lambda p: unit * jnp.sin(3.0 * p + i), params)
        updates, state = tx.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), updates

    return jax.lax.scan(step, (tree(), tx.init(tree())), jnp.arange(1.0 * STEPS))[1]


def newton_schulz(x):
    """Through singular values, which each step maps on their own."""
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    s = s / (np.sqrt(np.sum(s**2, axis=-1, keepdims=True)) + 1e-8)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u * s[..., None, :] @ vt


class OneTensor(LocalOracle):
    def __init__(self, rule, theta, param):
        super().__init__(param, 0.95)
        self.rule = rule
        self.w = {name: np.asarray(leaf, np.float64) for name, leaf in theta.items()}

    def direction(self, g):
        x = self.inputs(g)
        for i in range(3):
            x = (np.maximum(x, 0.0) if i else x) @ self.w[f"w{i}"][: x.shape[-1]] + self.w[f"b{i}"]
        d = x[..., 0]
        return self.normal(newton_schulz(d) if self.rule.orthogonalise and self.matrix else d)

    def step(self, g, to_adam):
        g = g.reshape(self.p.shape)
        self.remember(g)
        rate = RATE * min(1.0, (self.t + 1) / 2)  # a twentieth of 40 steps warms up
        rate *= (1 + np.cos(np.pi * max(0.0, self.t - 2) / 38)) / 2
        if to_adam:
            rate, d = 20.0 * rate, self.m[0] * (self.v + 1e-8) ** -0.5
        else:
            d = self.direction(g)
        step = -rate * (d + DECAY * self.p)
        self.p, self.t = self.p + step, self.t + 1
        return step


@pytest.mark.parametrize("name", sorted(RULES))
def test_agrees_with_the_second_implementation(name):
    rule = RULES[name]
    theta = weights(rule)
    seen = run(rule, theta, 1.0)
    for path, param in tree().items():
        other = OneTensor(rule, theta, param)
        to_adam = name == "orthogonal" and path in ("scale", "dense/bias", "embedding")
        for i in range(STEPS):
            want = other.step(np.sin(3.0 * other.p + i), to_adam)
            np.testing.assert_allclose(
                seen[path][i], want.reshape(param.shape), rtol=2e-4, atol=1e-6
            )


def test_weight_counts_and_state_sizes():
    params = {"kernel": jnp.ones((4, 5)), "bias": jnp.ones(6)}

    def floats(rule):
        state = rule.opt(rule.init(jax.random.key(0)), 10).init(params)
        leaves = jax.tree.leaves(state)
        return sum(x.size for x in leaves if jnp.issubdtype(x.dtype, jnp.floating))

    theta = Celo2().init(jax.random.key(0))
    assert sum(leaf.size for leaf in theta.values()) == 347
    assert floats(PRESETS["base"]) == 4 * 20 + 3 * (4 + 5) + 7 * 6
    assert floats(PRESETS["orthogonal"]) == 4 * 20 + 3 * (4 + 5) + 2 * 6


def test_only_the_clipped_gradient_knows_the_unit_of_the_loss():
    rule = RULES["base"]
    theta = weights(rule)
    deaf = theta | {"w0": theta["w0"].at[1].set(0.0)}
    one, other = (run(rule, deaf, unit) for unit in (10.0, 300.0))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-2, atol=1e-4), one, other)
    one, other = (run(rule, theta, unit)["dense/kernel"] for unit in (0.1, 10.0))
    assert float(jnp.max(jnp.abs(one - other))) > 1e-3


def test_singular_values_come_near_one():
    for shape in ((6, 3), (2, 3, 5)):
        x = jax.random.normal(jax.random.key(0), shape)
        found = np.linalg.svd(orthogonalised(x), compute_uv=False)
        assert np.all((found > 0.6) & (found < 1.3))
    np.testing.assert_array_equal(orthogonalised(jnp.zeros((2, 3))), np.zeros((2, 3)))


def test_a_subclass_may_divide_parameters_another_way():
    params = {"head": {"kernel": jnp.ones((2, 2)), "b": jnp.ones((2, 2))}, "gain": jnp.ones(2)}
    routed = {"head": {"kernel": "network", "b": "adam"}, "gain": "adam"}
    assert PRESETS["orthogonal"].labels(params) == routed
    assert set(jax.tree.leaves(PRESETS["base"].labels(params))) == {"network"}

    class AllButHeads(Celo2):
        def labels(self, params):
            return {name: "adam" if name == "head" else "network" for name in params}

    rule, plain = AllButHeads(), Celo2()
    theta = rule.init(jax.random.key(0))
    gradients = jax.tree.map(lambda p: 2.0 * p, params)

    @partial(jax.jit, static_argnums=0)
    def first(rule):
        tx = rule.opt(theta, 10)
        return tx.update(gradients, tx.init(params), params)[0]

    mine, its = first(rule), first(plain)
    np.testing.assert_array_equal(mine["gain"], its["gain"])
    adam = 0.2 / np.sqrt(0.05 * 4.0 + 1e-8)
    np.testing.assert_allclose(mine["head"]["kernel"], -20.0 * 0.001 * adam, rtol=1e-5)


HEADED = {"embed": {"table": jnp.ones((3, 2))}, "body": jnp.ones((2, 2))}
HEADED |= {"head": [jnp.ones((2, 2)), None, jnp.ones(2)]}


@pytest.fixture
def saved(tmp_path):
    rule = Celo2(hidden=2)
    learned_opt.write(tmp_path / "celo2.safetensors", rule, weights(rule), {})
    return tmp_path / "celo2.safetensors"


def test_who_loads_weights_may_divide_parameters(saved):
    routed = {"embed": "adam", "body": "network", "head": ["adam", "adam", "network"]}

    def by_rank(params):
        told = jax.tree.map(lambda p: "network" if p.ndim > 1 else "adam", params)
        return told | {"embed": "adam"}

    @jax.jit
    def first(gradients):
        own, mine, ranked = (
            learned_opt.load(saved, num_steps=10, labels=labels)
            for labels in (None, routed, by_rank)
        )
        trained = {"embed": True, "body": True, "head": [True, False, False]}
        rules = own, optax.masked(mine, trained), ranked
        return [tx.update(gradients, tx.init(HEADED), HEADED)[0] for tx in rules]

    own, mine, ranked = first(jax.tree.map(lambda p: 2.0 * p, HEADED))
    adam = -20.0 * 0.001 * 0.2 / math.sqrt(0.05 * 4.0 + 1e-8)
    for moved in (
        mine["embed"]["table"],
        mine["head"][0],
        ranked["head"][2],
        ranked["embed"]["table"],
    ):
        np.testing.assert_allclose(moved, adam, rtol=1e-5)
    for same in (mine["body"], ranked["body"]):
        np.testing.assert_array_equal(same, own["body"])
    np.testing.assert_array_equal(ranked["head"][0], own["head"][0])
    assert not np.allclose(own["head"][0], adam, rtol=1e-2)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("adm", "^labels: all: 'adm' is not allowed; did you mean adam"),
        (
            {"embed": "muon", "body": 3, "head": "adam"},
            "body: 3 is not allowed .*; embed: 'muon' is not allowed",
        ),
        ({"embed": "adam", "head": ["adam"]}, "body: has no label; head/2: has no label$"),
        ({"embed": "adam", "body": {"k": "adam"}, "head": "adam"}, "body: has.*body/k: is not a"),
        (lambda _: {"embed": "adam"}, "labels: body: has no label; head/0: has no label; head/2"),
    ],
)
def test_labels_that_do_not_fit_are_named(saved, labels, message):
    with pytest.raises(ValueError, match=message):
        learned_opt.load(saved, labels=labels).init(HEADED)


@pytest.mark.parametrize("name", ["adam", "small_fc"])
def test_rules_without_ways_take_no_labels(name):
    with pytest.raises(ValueError, match=f"^labels: {name} takes none"):
        learned_opt.load(name, labels="adam")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden": 0}, "hidden: 0 is not allowed"),
        ({"weight_decay": -0.1}, "weight_decay: -0.1 is not allowed"),
        ({"learning_rate": 0.0}, "learning_rate: 0.0 is not allowed"),
        ({"adam_paths": "("}, r"adam_paths: '\(' is not allowed"),
        ({"schedule": "cosin"}, "schedule.*cosin.*cosine"),
    ],
)
def test_refuses_what_cannot_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        Celo2(**wrong)
