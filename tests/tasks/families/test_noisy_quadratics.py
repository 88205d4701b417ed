import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.oracles import agrees, distorted, drawn

from tasks.families.noisy_quadratics import NoisyQuadraticModel, RandomQuadratic

KINDS = ("normal", "uniform", "linspace", "logspace")


def test_the_model_in_numpy_and_its_expectation():
    family = NoisyQuadraticModel(dim=5)
    cfg, task, x = drawn(family)
    stdev, conditioning = float(cfg["stdev"]), float(cfg["conditioning"])
    curvature = np.logspace(0, -np.log10(conditioning), 5)
    batch = task.batch(jax.random.key(1), "train")
    target = np.float64(batch["target"])
    agrees(task, x, batch, lambda x: 0.5 * np.mean(curvature * (x - target) ** 2))
    agrees(
        task,
        x,
        task.whole("test"),
        lambda x: 0.5 * np.mean(curvature * x**2) + 0.5 * stdev**2 * np.mean(curvature),
    )
    keys = jax.random.split(jax.random.key(2), 20000)
    losses = jax.vmap(lambda key: task.loss(x, key, task.batch(key, "train")))(keys)
    np.testing.assert_allclose(
        jnp.mean(losses), task.loss(x, keys[0], task.whole("test")), rtol=0.03
    )


def test_numbers_of_the_model_fill_their_bounds_evenly_in_the_logarithm():
    cfg = jax.vmap(NoisyQuadraticModel().sample)(jax.random.split(jax.random.key(0), 4000))
    for field, (low, high) in {"stdev": (0.1, 3.0), "conditioning": (100.0, 30000.0)}.items():
        place = np.log(cfg[field] / low) / np.log(high / low)
        assert place.min() >= -1e-6 and place.max() <= 1 + 1e-6
        np.testing.assert_allclose(np.histogram(place, 5, (0, 1))[0], 800, atol=120)


def test_the_model_takes_gradient_noise():
    _, task, x = drawn(NoisyQuadraticModel(dim=4000, noise=0.2))
    np.testing.assert_allclose(np.std(distorted(task, jnp.zeros_like(x))), 0.2, rtol=0.1)


@pytest.mark.parametrize("matrix", KINDS)
@pytest.mark.parametrize("output", ["identity", "log"])
def test_random_quadratic_in_numpy(matrix, output):
    cfg, task, x = drawn(RandomQuadratic(dim=5, matrix=matrix, output=output))

    def formula(x):
        square = np.sum((np.float64(cfg["matrix"]) @ x) ** 2)
        return float(cfg["scale"]) * (np.log(square + 1e-8) if output == "log" else square)

    agrees(task, x, (), formula)
    least = task.loss(jnp.zeros(5), jax.random.key(0), ())
    floor = 0 if output == "identity" else np.log(1e-8) * cfg["scale"]
    np.testing.assert_allclose(least, floor, rtol=1e-5)
    assert floor * 1.0001 <= task.lower_bound <= least


def test_eigenvalues_are_spaced_as_named():
    cfg, _, _ = drawn(RandomQuadratic(dim=6, matrix="linspace"))
    matrix = np.float64(cfg["matrix"])
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-4)
    gaps = np.diff(np.linalg.eigvalsh(matrix))
    np.testing.assert_allclose(gaps, gaps.mean(), rtol=1e-3)
    cfg, _, _ = drawn(RandomQuadratic(dim=3, matrix="logspace"))
    values = np.linalg.eigvalsh(np.float64(cfg["matrix"]))
    assert 1 <= values[-1] <= 1000
    np.testing.assert_allclose(values[1], np.sqrt(1e-5 * values[-1]), rtol=1e-2)
    off_diagonal = np.asarray(cfg["matrix"])[~np.eye(3, dtype=bool)]
    assert np.abs(off_diagonal).max() > 1e-2 * values[-1]


def test_numbers_are_drawn_as_taskset_has_them():
    keys = jax.random.split(jax.random.key(0), 3000)
    cfg = jax.vmap(RandomQuadratic(dim=2, matrix="linspace", start="uniform").sample)(keys)
    least, greatest = np.linalg.eigvalsh(np.float64(cfg["matrix"])).T
    assert 0 < least.min() < 1 and 49 < least.max() <= 50.01
    assert 95 < (greatest - least).max() <= 100.01
    np.testing.assert_allclose([least.mean(), (greatest - least).mean()], [25, 50], rtol=0.05)
    low, width = map(np.asarray, cfg["start"])
    assert -5 <= low.min() < -4.9 and 2.4 < low.max() <= 2.5
    assert 0 <= width.min() < 0.1 and 4.9 < width.max() <= 5
    np.testing.assert_allclose(np.mean(np.log10(cfg["scale"])), -1, atol=0.15)


@pytest.mark.parametrize("shaking", KINDS)
def test_shaking_adds_a_fresh_matrix_at_every_step(shaking):
    family = RandomQuadratic(dim=4, shaking=shaking, loss_scale=(1.0, 1.0))
    cfg, task, x = drawn(family)
    losses = [task.loss(x, jax.random.key(seed), ()) for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    still = RandomQuadratic(dim=4, loss_scale=(1.0, 1.0)).task(cfg, ())
    assert losses[0] != still.loss(x, jax.random.key(0), ())


def test_bad_fields_are_named():
    with pytest.raises(ValueError, match="matrix: unknown name 'linspce'; did you mean linspace"):
        RandomQuadratic(matrix="linspce")
    with pytest.raises(ValueError, match="output: unknown name 'square'"):
        RandomQuadratic(output="square")
    with pytest.raises(ValueError, match="stdev: "):
        NoisyQuadraticModel(stdev=(3.0, 0.1))
    with pytest.raises(ValueError, match="conditioning: 0.5 is not allowed; it must be at least 1"):
        NoisyQuadraticModel(conditioning=(0.5, 2.0))
