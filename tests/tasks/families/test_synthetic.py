import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.synthetic import (
    FUNCTIONS,
    Function2D,
    MatrixFactorisation,
    Quadratic,
    gradient_noise,
)

# The minimum and where it lies; from the literature, digits from a search in double precision.
MINIMA = {
    "rosenbrock": (0.0, (1.0, 1.0)),
    "log_sum_exp": (1.2695545, (-0.3465736, 0.0)),
    "ackley": (0.0, (0.0, 0.0)),
    "beale": (0.0, (3.0, 0.5)),
    "booth": (0.0, (1.0, 3.0)),
    "styblinski_tang": (1.6676686, (-2.9035340, -2.9035340)),
    "matyas": (0.0, (0.0, 0.0)),
    "branin": (0.3978874, (-np.pi, 12.275)),
    "michalewicz": (0.1933771, (2.1853120, np.pi / 2)),
}


def whole_task(family, seed=0):
    key = jax.random.key(seed)
    return family.task(family.sample(key), ())


@pytest.mark.parametrize("function", MINIMA)
def test_known_minimum_is_there_and_nothing_is_lower(function):
    task = whole_task(Function2D(function))
    value, point = MINIMA[function]
    slope = jax.jit(jax.value_and_grad(lambda p: task.loss(p, jax.random.key(0), ())))
    loss, grad = slope(jnp.array(point))
    np.testing.assert_allclose(loss, value, atol=2e-5)
    np.testing.assert_allclose(grad, 0, atol=2e-4)
    assert value - 1e-4 < task.lower_bound <= loss
    rng = np.random.default_rng(0)
    near = [point + scale * rng.normal(size=(2000, 2)) for scale in (1e-4, 1e-2, 1.0)]
    far = rng.uniform(-10, 10, size=(5000, 2))
    values = jax.jit(jax.vmap(lambda p: task.loss(p, jax.random.key(0), ())))(
        jnp.asarray(np.concatenate([*near, far]), jnp.float32)
    )
    assert jnp.min(values) >= task.lower_bound


@pytest.mark.parametrize("function", [name for name in FUNCTIONS if FUNCTIONS[name].box])
def test_starts_fill_their_box(function):
    starts = jax.jit(jax.vmap(whole_task(Function2D(function)).init))(
        jax.random.split(jax.random.key(0), 4000)
    )
    low, high = np.array(FUNCTIONS[function].box).T
    assert np.all(starts >= low) and np.all(starts <= high)
    np.testing.assert_allclose(starts.min(0), low, atol=0.01 * (high - low).max())
    np.testing.assert_allclose(starts.max(0), high, atol=0.01 * (high - low).max())


def test_the_saddle_has_no_floor_and_starts_normal():
    task = whole_task(Function2D("saddle"))
    assert task.lower_bound is None
    assert task.loss(jnp.array([3.0, 5.0]), jax.random.key(0), ()) == 9 - 25
    starts = jax.vmap(task.init)(jax.random.split(jax.random.key(0), 2000))
    np.testing.assert_allclose(np.std(starts), 1, rtol=0.05)


def test_quadratic_is_half_the_squared_residual():
    family = Quadratic(dim=7)
    cfg = family.sample(jax.random.key(3))
    task = family.task(cfg, ())
    x = task.init(jax.random.key(4))
    matrix, target = np.float64(cfg["matrix"]), np.float64(cfg["target"])
    residual = matrix @ np.float64(x) - target
    loss, grad = jax.value_and_grad(task.loss)(x, jax.random.key(0), ())
    np.testing.assert_allclose(loss, 0.5 * residual @ residual, rtol=1e-5)
    np.testing.assert_allclose(grad, matrix.T @ residual, rtol=1e-4, atol=1e-4)
    solution = jnp.array(np.linalg.solve(matrix, target), jnp.float32)
    assert 0 <= task.loss(solution, jax.random.key(0), ()) < 1e-6


def test_quadratics_with_a_seed_are_one_task():
    first, second = (Quadratic(seed=5).sample(jax.random.key(i)) for i in (0, 1))
    np.testing.assert_array_equal(first["matrix"], second["matrix"])
    third = Quadratic().sample(jax.random.key(0))
    assert np.any(third["matrix"] != first["matrix"])


def test_matrix_factorisation_vanishes_at_the_true_factors():
    family = MatrixFactorisation(size=12, rank=2, seed=0)
    cfg = family.sample(jax.random.key(0))
    task = family.task(cfg, ())
    assert task.loss(cfg, jax.random.key(0), ()) < 1e-10
    zero = jax.tree.map(jnp.zeros_like, cfg)
    matrix = np.asarray(cfg["left"]) @ np.asarray(cfg["right"])
    np.testing.assert_allclose(task.loss(zero, jax.random.key(0), ()), np.mean(matrix**2), 1e-5)


def test_gradient_noise_is_centred_with_the_stated_spread_and_fresh_for_every_key():
    noise = gradient_noise(0.5)
    zeros = {"a": jnp.zeros(4000), "b": jnp.zeros((20, 100))}
    update = jax.jit(lambda key: noise.update(zeros, noise.init(zeros), key=key)[0])
    first, second = (jax.device_get(update(jax.random.key(seed))) for seed in (0, 1))
    for leaf in jax.tree.leaves(first):
        assert abs(leaf.mean()) < 0.05
        np.testing.assert_allclose(leaf.std(), 0.5, rtol=0.05)
    assert np.any(first["a"] != second["a"])
    assert np.any(first["a"][:2000] != first["b"].ravel())


def test_noise_acts_on_the_gradient_and_not_on_the_loss():
    task = whole_task(Function2D("booth", noise=1.0))
    calm = whole_task(Function2D("booth"))
    point = jnp.array([1.0, 3.0])
    assert task.loss(point, jax.random.key(0), ()) == calm.loss(point, jax.random.key(0), ()) == 0


def test_names_follow_the_function_and_the_noise():
    assert Function2D("ackley").name == "ackley"
    assert Function2D("ackley", noise=1.0).name == "ackley_noisy"
    assert Function2D("ackley", name="mine").name == "mine"


def test_bad_fields_are_named():
    with pytest.raises(ValueError, match="function: unknown name 'rosenbrok'; did you mean rosen"):
        Function2D("rosenbrok")
    with pytest.raises(ValueError, match="noise: -1 is not allowed"):
        Quadratic(noise=-1)
    with pytest.raises(ValueError, match="dim: 0 is not allowed; it must be at least 1"):
        Quadratic(dim=0)
    with pytest.raises(ValueError, match="size: 2"):
        MatrixFactorisation(size=2, rank=3)
