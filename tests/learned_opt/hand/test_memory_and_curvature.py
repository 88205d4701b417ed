"""Rules that choose their momentum, reduce variance or estimate curvature, by published values."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import golden

from learned_opt import make


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("am_sgd", {}, (0.46107123, -0.75246090, -0.17917743)),
        ("am_adamw", {"weight_decay": 0.0}, (0.30942496, -0.95510667, -0.14085465)),
        ("am_adamw", {"weight_decay": 0.1}, (0.28990589, -0.94493270, -0.13952440)),
        ("mars_adamw", {}, (0.33800680, -0.93066278, -0.08757225)),
    ],
)
def test_golden(name, fields, expected):
    golden.check(name, expected, **fields)


def three_steps(tx, **given):
    """The parameters after three golden gradients, which are also the sampled ones; float64."""

    @jax.jit
    def run():
        params = golden.double(golden.PARAMS)
        state = tx.init(params)
        for gradient in map(golden.double, golden.GRADIENTS):
            extra = {"sampled_gradient": gradient} | given
            updates, state = tx.update(gradient, state, params, **extra)
            params = optax.apply_updates(params, updates)
        return params

    return jax.tree.map(np.asarray, run())


def test_sophia_g():
    """Published values, and by hand where rho is large enough for nothing to be clipped."""
    with jax.enable_x64(True):
        fields = {"learning_rate": 0.1, "batch_size": 8}
        found = three_steps(make("sophia_g", update_interval=1, weight_decay=0.1, **fields))
        gentle = three_steps(
            make("sophia_g", update_interval=2, weight_decay=0.0, rho=1e6, **fields)
        )
    got = (found["w"][0, 0], found["w"][1, 2], found["b"][1])
    np.testing.assert_allclose(got, (0.18813950, -0.82473425, -0.06688462), rtol=0, atol=2e-8)
    for name, start in golden.PARAMS.items():
        m, h, w = 0.0, 0.0, np.asarray(start)
        for t, gradient in enumerate(golden.GRADIENTS):
            g = np.asarray(gradient[name])
            m = 0.965 * m + 0.035 * g
            h = h if t == 1 else 0.99 * h + 0.01 * g**2
            w = w - 0.1 * m / (8e6 * h)
        np.testing.assert_allclose(gentle[name], w, rtol=1e-12)


def test_sophia_h_divides_by_the_curvature_it_saw_the_update_before():
    """Exact for a diagonal Hessian: first a signed step, then clip(m_hat / (gamma h), 1)."""
    curvature, w = np.array([1.0, 10.0, 100.0]), np.array([0.01, 0.02, -0.03])
    with jax.enable_x64(True):
        tx = make("sophia_h", learning_rate=0.1, weight_decay=0.0, update_interval=1, gamma=20.0)
        gradient, params = jnp.asarray(curvature * w), jnp.asarray(w)
        obj_fn = lambda p: 0.5 * jnp.sum(jnp.asarray(curvature) * p**2)
        first, state = tx.update(gradient, tx.init(params), params, obj_fn=obj_fn)
        second, _ = tx.update(gradient, state, params, obj_fn=obj_fn)
    np.testing.assert_allclose(first, -0.1 * np.sign(w), rtol=1e-12)
    h = 0.01 * curvature
    np.testing.assert_allclose(second, -0.1 * np.clip(curvature * w / (20 * h), -1, 1), rtol=1e-12)


def test_mars_lion_and_mars_shampoo():
    """By hand for lion; shampoo's first step is near orthogonal, sized by the leaf's shape."""
    with jax.enable_x64(True):
        fields = {"learning_rate": 0.1, "weight_decay": 0.0}
        lion = three_steps(make("mars_lion", **fields))
        shampoo = make("mars_shampoo", **fields)
        params = golden.double(golden.PARAMS)
        step, _ = shampoo.update(golden.double(golden.GRADIENTS[0]), shampoo.init(params), params)
    w, m, before = np.asarray(golden.PARAMS["w"]), 0.0, 0.0
    for gradient in golden.GRADIENTS:
        g = np.asarray(gradient["w"])
        c = g + 0.025 * 0.95 / 0.05 * (g - before)
        m, before = 0.95 * m + 0.05 * c / max(1.0, float(np.linalg.norm(c))), g
        w = w - 0.1 * np.sign(m)
    np.testing.assert_allclose(lion["w"], w, rtol=1e-12)
    sizes = np.linalg.svd(np.asarray(step["w"]), compute_uv=False) / (0.1 * np.sqrt(1.5))
    assert (sizes > 0.68).all() and (sizes < 1.14).all()


def test_memory_of_one_gradient_is_that_gradient():
    """Equal gradients leave no gap between the two planes: no memory, no division by zero."""
    gradient = {"w": jnp.array([1.0, -2.0])}
    tx = make("am_sgd", learning_rate=0.5)
    state = tx.init(gradient)
    for _ in range(3):
        step, state = tx.update(gradient, state, gradient)
        np.testing.assert_allclose(step["w"], [-0.5, 1.0], rtol=1e-6)
