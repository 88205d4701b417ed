import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.descent import trained

from tasks.base import SPLITS
from tasks.families.physics import PoissonNetwork, derivatives, solution, source


def test_the_solution_keeps_the_ends_and_curves_like_the_source():
    a = np.array([0.5, -1.0, 0.25])
    ends = solution(jnp.array(a), jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(ends, 0, atol=1e-6)
    x, h = np.linspace(0.1, 0.9, 9), 1e-4

    def u(x):
        return sum(-a[k - 1] / (k * np.pi) ** 2 * np.sin(k * np.pi * x) for k in (1, 2, 3))

    np.testing.assert_allclose(solution(jnp.array(a), jnp.array(x)), u(x), atol=1e-6)
    curved = (u(x + h) - 2 * u(x) + u(x - h)) / h**2
    np.testing.assert_allclose(source(jnp.array(a), jnp.array(x)), curved, atol=1e-5)
    value, first, second = derivatives(lambda x: solution(jnp.array(a), x), jnp.array(x))
    np.testing.assert_allclose(value, u(x), atol=1e-6)
    np.testing.assert_allclose(first, (u(x + h) - u(x - h)) / (2 * h), atol=1e-5)
    np.testing.assert_allclose(second, curved, atol=1e-5)


def test_the_networks_residual_against_differences():
    family = PoissonNetwork(widths=(6,), seed=1)
    cfg = family.sample(jax.random.key(0))
    task = family.task(cfg, ())
    params = task.init(jax.random.key(1))
    x = np.linspace(0.05, 0.95, 7)
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def u(x):
        layer0, layer1 = weights["layer0"], weights["layer1"]
        inner = np.tanh((2 * x[:, None] - 1) @ layer0["weight"] + layer0["bias"])
        return x * (1 - x) * (inner @ layer1["weight"] + layer1["bias"])[:, 0]

    h = 1e-4
    curved = (u(x + h) - 2 * u(x) + u(x - h)) / h**2
    a = np.asarray(cfg["amplitudes"], np.float64)
    f = sum(a[k - 1] * np.sin(k * np.pi * x) for k in (1, 2, 3))
    loss = task.loss(params, jax.random.key(0), jnp.array(x))
    np.testing.assert_allclose(loss, np.mean((curved - f) ** 2), rtol=1e-4)


@pytest.mark.slow
def test_doing_nothing_costs_one_and_training_finds_the_solution():
    family = PoissonNetwork(modes=2, seed=3)
    cfg = family.sample(jax.random.key(0))
    task = family.task(cfg, ())
    zero = jax.tree.map(jnp.zeros_like, task.init(jax.random.key(0)))
    idle = task.loss(zero, jax.random.key(0), task.whole("train"))
    np.testing.assert_allclose(idle, 1, rtol=1e-3)
    _, last, params = trained(family, steps=1500)
    assert last < 0.02
    x = jnp.linspace(0, 1, 50)
    truth = solution(cfg["amplitudes"], x)
    assert jnp.max(jnp.abs(family.value(params, x) - truth)) < 0.1 * jnp.max(jnp.abs(truth))


def test_splits_are_points_of_their_own():
    task = PoissonNetwork().task(PoissonNetwork().sample(jax.random.key(0)), ())
    whole = np.concatenate([task.whole(split) for split in SPLITS])
    assert len(np.unique(whole)) == len(whole) and whole.min() > 0 and whole.max() < 1
    batches = np.concatenate([task.batch(jax.random.key(0), split) for split in SPLITS])
    assert len(np.unique(batches)) == len(batches)


def test_bad_fields_are_named():
    with pytest.raises(ValueError, match="modes: 0 is not allowed"):
        PoissonNetwork(modes=0)
    with pytest.raises(ValueError, match="widths: 0 is not allowed"):
        PoissonNetwork(widths=())
