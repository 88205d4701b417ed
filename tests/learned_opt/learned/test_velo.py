"""VeLO against its published numbers and a second implementation."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.learned.velo import PRESETS, Velo
from tests.learned_opt.learned.velo_oracle import VeloOracle

SHAPES = [(), (5,), (4, 3), (2, 1, 3), (4, 3), (3, 2, 4, 2)]
LOSSES = [3.0, 2.5, 30.0, 1.5, 1.7, 0.2]
SMALL = Velo(hidden=6, banks=3, exp_mult=0.3, step_mult=0.1)


def tree(seed: int, scale: float = 1.0) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    return [scale * jax.random.normal(key, shape) for key, shape in zip(keys, SHAPES, strict=True)]


def weights(rule, seed: int = 0, scale: float = 0.1):
    """Weights with biases and first states that are not 0."""
    theta = rule.init(jax.random.key(seed))
    leaves, treedef = jax.tree.flatten(theta)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    return treedef.unflatten(
        leaf + scale * jax.random.normal(key, leaf.shape)
        for key, leaf in zip(keys, leaves, strict=True)
    )


def agrees(rule, oracle, theta, params, gradients, num_steps: int = 40) -> None:
    """The rule's updates are those of the oracle, step by step along one run."""

    @jax.jit
    def step(gradient, state, params, loss):
        updates, state = rule.opt(theta, num_steps).update(gradient, state, params, value=loss)
        return updates, state, optax.apply_updates(params, updates)

    other = oracle(rule, theta, params, num_steps)
    state = rule.opt(theta, num_steps).init(params)
    for gradient, loss in zip(gradients, LOSSES, strict=True):
        updates, state, params = step(gradient, state, params, loss)
        for got, want in zip(updates, other.step(gradient, loss), strict=True):
            size = float(np.abs(want).max())
            np.testing.assert_allclose(got, want.reshape(got.shape), atol=2e-4 * size)


def test_weight_counts():
    theta = jax.eval_shape(Velo().init, jax.random.key(0))
    sizes = {group: sum(x.size for x in jax.tree.leaves(theta[group])) for group in theta}
    assert sizes["bank"] == 40_704
    assert sum(sizes.values()) == 2_320_385


@pytest.mark.parametrize(
    "choices",
    [
        pytest.param({"clip_param_scale_amount": 0.3, "bank_mult": 5.0}, id="released"),
        pytest.param(
            {
                "validation_flag": True,
                "param_scale_mult": False,
                "bank_mult": 1.0,
                "use_bugged_loss_features": True,
                "use_bugged_next_lstm_state": True,
            },
            id="switches",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_six_steps_agree_with_the_second_implementation(choices):
    rule = dataclasses.replace(SMALL, **choices)
    few = len(SHAPES) if rule.clip_param_scale_amount else 3
    params = tree(0, 0.5)[:few]
    gradients = [tree(i, 30.0 if i == 3 else 0.1)[:few] for i in range(1, 7)]
    gradients[4] = jax.tree.map(jnp.zeros_like, gradients[4])
    agrees(rule, VeloOracle, weights(rule), params, gradients)


def test_state_holds_four_floats_a_parameter_and_the_lstm():
    params = {"w": jnp.zeros((20, 30)), "b": jnp.zeros(7)}
    theta = jax.eval_shape(Velo().init, jax.random.key(0))
    state = jax.eval_shape(lambda theta: Velo().opt(theta, 10).init(params), theta)
    floats = sum(leaf.size for leaf in jax.tree.leaves(state)) - 1 - 30  # count, loss buffer
    assert floats == 4 * 600 + 3 * (20 + 30) + 7 * 7 + 2 * 512 * 2


@pytest.mark.slow
def test_networks_are_made_once_for_each_tensor():
    """What a wider bank costs more does not depend on how many scalars a tensor has."""

    def work(banks: int, size: int) -> float:
        rule = Velo(hidden=4, banks=banks)
        theta = jax.eval_shape(rule.init, jax.random.key(0))
        params = jax.ShapeDtypeStruct((size, size), jnp.float32)

        def step(theta, params):
            tx = rule.opt(theta, 10)
            return tx.update(params, tx.init(params), params, value=jnp.float32(1.0))[0]

        cost = jax.jit(step).lower(theta, params).cost_analysis()
        assert isinstance(cost, dict)
        return cost["flops"]

    small, large = (work(64, size) - work(8, size) for size in (4, 100))
    assert small > 56 * 159
    assert large == pytest.approx(small, rel=1e-6)


@pytest.mark.slow
def test_meta_gradients_are_finite_from_zero_gradients_on():
    rule = Velo(hidden=3, banks=2, step_mult=0.1)
    params = {"w": jax.random.normal(jax.random.key(5), (2, 3)), "b": jnp.zeros(3)}

    @jax.jit
    @jax.grad
    def slope(theta):
        tx = rule.opt(theta, 10)

        def step(carry, scale):
            p, state = carry
            loss = jnp.sum(jnp.square(p["w"])) + jnp.sum(jnp.square(p["b"]))
            gradient = jax.tree.map(lambda x: scale * jnp.sin(x), p)
            updates, state = tx.update(gradient, state, p, value=loss)
            return (optax.apply_updates(p, updates), state), loss

        start = params, tx.init(params)
        _, losses = jax.lax.scan(step, start, jnp.array([0.0, 1.0, 2.0, 1.0]))
        return losses[-1]

    gradient: Any = slope(weights(rule))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    del gradient["controller"]["unread"]
    assert all(bool(jnp.any(leaf)) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("kind", ["velo", "celo", "celo_adam"])
def test_the_loss_and_the_length_of_the_run_must_be_given(kind, tmp_path):
    rule = learned_opt.LEARNED[kind](hidden=2)
    theta = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(rule.init, jax.random.key(0))
    )
    learned_opt.write(tmp_path / "rule.safetensors", rule, theta, {})
    with pytest.raises(ValueError, match=r"num_steps: .* requires the number of updates"):
        learned_opt.load(tmp_path / "rule.safetensors")
    tx = learned_opt.load(tmp_path / "rule.safetensors", num_steps=20)
    params = np.ones(2, np.float32)
    state = jax.eval_shape(tx.init, params)
    with pytest.raises(ValueError, match=f"value: {kind} reads the training loss"):
        jax.eval_shape(lambda p, state: tx.update(p, state, p), params, state)
    with pytest.raises(ValueError, match=f"params: {kind}"):
        jax.eval_shape(lambda p, state: tx.update(p, state, value=1.0), params, state)
    jax.eval_shape(lambda p, state: tx.update(p, state, p, value=1.0), params, state)


def test_presets():
    assert PRESETS["released"] == Velo()
    theta = jax.eval_shape(PRESETS["small"].init, jax.random.key(0))
    assert theta["controller"]["controls"]["w"].shape == (64, 32)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden": 0},
        {"banks": 0},
        {"units": -1},
        {"bank_mult": 0.0},
        {"exp_mult": float("nan")},
        {"step_mult": -1.0},
        {"clip_param_scale_amount": 0.0},
    ],
)
def test_refuses_what_cannot_be(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name}: {value} is not allowed"):
        Velo(**wrong)
