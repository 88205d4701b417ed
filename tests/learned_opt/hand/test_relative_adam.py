"""relative_adam against the same formulas in NumPy, in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt import make
from learned_opt.anchors.relative_adam import nominal_schedule
from learned_opt.hand.relative_adam import relative_adam


def schedule(t: int, horizon: int) -> float:
    warmup = max(1, 3 * horizon // 100)
    if t >= horizon:
        return 0.02
    if t < warmup:
        return (t + 1) / warmup
    return 0.02 + 0.98 * (1 + math.cos(math.pi * (t - warmup) / (horizon - warmup))) / 2


def run(tensors, gradients, horizon: int, rate: float = 0.1, b1: float = 0.9, b2: float = 0.99):
    """The tensors after one update for every entry of `gradients`."""
    tensors = {name: value.astype(np.float64) for name, value in tensors.items()}
    m = {name: 0.0 for name in tensors}
    v = {name: 0.0 for name in tensors}
    for t, gradient in enumerate(gradients):
        for name, p in tensors.items():
            g = gradient[name].astype(np.float64)
            m[name] = b1 * m[name] + (1 - b1) * g
            v[name] = b2 * v[name] + (1 - b2) * g * g
            m_hat, v_hat = m[name] / (1 - b1 ** (t + 1)), v[name] / (1 - b2 ** (t + 1))
            size = max(np.sqrt(np.mean(p * p)), 0.05)
            step = rate * schedule(t, horizon) * size
            tensors[name] = p - step * m_hat / (np.sqrt(v_hat) + 1e-12)
    return tensors


@pytest.mark.parametrize("horizon", [1, 2, 33, 34, 100, 300])
def test_schedule_at_its_corners(horizon):
    warmup = max(1, 3 * horizon // 100)
    for t in {0, warmup - 1, warmup, warmup + 1, horizon - 1, horizon, horizon + 1, 7 * horizon}:
        assert nominal_schedule(t, horizon) == pytest.approx(schedule(t, horizon), rel=1e-5), t


def test_warm_up_length_is_exact_for_every_hundredth():
    horizons = np.arange(100, 200_001, 100)
    first = jax.vmap(lambda horizon: nominal_schedule(0, horizon))(jnp.asarray(horizons))
    np.testing.assert_allclose(first, 1 / (3 * horizons // 100), rtol=1e-6)


@pytest.mark.parametrize(("horizon", "steps"), [(1, 3), (5, 8), (100, 12)])
@pytest.mark.parametrize("chosen", [{}, {"learning_rate": 0.03, "b1": 0.8}])
def test_follows_the_formulas(horizon, steps, chosen):
    generator = np.random.default_rng(0)
    tensors = {
        "matrix": generator.normal(size=(3, 4)).astype(np.float32),
        "small": (1e-3 * generator.normal(size=5)).astype(np.float32),
        "scalar": np.float32(-2.0).reshape(()),
        "zero": np.zeros((2, 1, 2), np.float32),
    }
    gradients = [
        {
            name: (10.0 ** generator.integers(-3, 4) * generator.normal(size=p.shape)).astype("f4")
            for name, p in tensors.items()
        }
        for _ in range(steps)
    ]
    tx = make("relative_adam", num_steps=horizon, **chosen)
    params = jax.tree.map(jnp.asarray, tensors)
    state = tx.init(params)
    for gradient in gradients:
        updates, state = tx.update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    expected = run(
        tensors, gradients, horizon, chosen.get("learning_rate", 0.1), chosen.get("b1", 0.9)
    )
    for name in tensors:
        np.testing.assert_allclose(params[name], expected[name], rtol=2e-4, atol=1e-6)


def test_gradient_scale_does_not_matter():
    params, gradient = jnp.array([1.0, -2.0]), jnp.array([0.3, 0.1])
    tx = relative_adam(horizon=10)
    small, _ = tx.update(1e-5 * gradient, tx.init(params), params)
    large, _ = tx.update(1e5 * gradient, tx.init(params), params)
    np.testing.assert_allclose(small, large, rtol=1e-4)


def test_moments_are_float32_whatever_the_parameters_are():
    params = jnp.ones(3, jnp.bfloat16)
    tx = relative_adam(horizon=10)
    updates, state = tx.update(jnp.full(3, 1e-3, jnp.bfloat16), tx.init(params), params)
    assert updates.dtype == jnp.bfloat16
    (tensor,) = state.tensors
    assert tensor.mu[0].dtype == tensor.nu.dtype == jnp.float32
    np.testing.assert_allclose(tensor.nu, 0.01 * float(jnp.bfloat16(1e-3)) ** 2, rtol=1e-6)


def test_non_finite_entries_count_as_zero():
    params = jnp.ones(4)
    tx = relative_adam(horizon=10)
    odd = jnp.array([jnp.nan, jnp.inf, -jnp.inf, 2.0])
    clean = jnp.array([0.0, 0.0, 0.0, 2.0])
    for got, want in zip(
        jax.tree.leaves(tx.update(odd, tx.init(params), params)),
        jax.tree.leaves(tx.update(clean, tx.init(params), params)),
        strict=True,
    ):
        np.testing.assert_array_equal(got, want)


def test_complex_leaves_are_refused():
    with pytest.raises(ValueError, match="parameters: complex leaves are not supported"):
        relative_adam(horizon=10).init({"a": jnp.ones(2), "b": jnp.ones(2, jnp.complex64)})


def test_without_params_says_what_to_pass():
    tx = relative_adam(horizon=10)
    with pytest.raises(ValueError, match="pass params="):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
