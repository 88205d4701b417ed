import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.oracles import agrees, distorted, drawn

from tasks.families.convex import Bowl, IsotropicQuadratic, Norm


@pytest.mark.parametrize("condition, angle", [(0.1, 0.0), (5.0, np.pi / 4), (30.0, 2.0)])
def test_a_bowl_is_a_stretched_and_turned_square(condition, angle):
    _, task, x = drawn(Bowl(condition, angle))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = np.diag([np.sqrt(condition), 1.0]) @ turn
    agrees(task, x, (), lambda x: 0.5 * np.sum((stretch @ x) ** 2))
    assert task.loss(jnp.zeros(2), jax.random.key(0), ()) == 0 == task.lower_bound
    curvature = np.linalg.eigvalsh(jax.hessian(task.loss)(x, jax.random.key(0), ()))
    np.testing.assert_allclose(curvature, sorted([1.0, condition]), rtol=1e-5)


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0, 3.0])
def test_norm_is_the_norm_of_the_residual(power):
    cfg, task, x = drawn(Norm(dim=7, power=power))
    matrix, target = np.float64(cfg["matrix"]), np.float64(cfg["target"])

    def formula(x):
        return np.sum((np.abs(matrix @ x - target) + 1e-6) ** power) ** (1 / power)

    agrees(task, x, (), formula)
    solution = jnp.array(np.linalg.solve(matrix, target), jnp.float32)
    assert 0 < task.loss(solution, jax.random.key(0), ()) < 1e-3


def test_norm_stays_finite_far_away_and_at_its_minimum():
    cfg = {"matrix": jnp.eye(3), "target": jnp.zeros(3)}
    task = Norm(dim=3, power=3.0).task(cfg, ())
    slope = jax.value_and_grad(lambda x: task.loss(x, jax.random.key(0), ()))
    far, grad = slope(jnp.array([1e15, 0.0, 0.0]))
    np.testing.assert_allclose(far, 1e15, rtol=1e-5)
    np.testing.assert_allclose(grad, [1, 0, 0], atol=1e-5)
    least, grad = slope(jnp.zeros(3))
    np.testing.assert_allclose(least, 3 ** (1 / 3) * 1e-6, rtol=1e-4)
    assert np.all(np.isfinite(grad))


def test_isotropic_quadratic_sums_over_its_vectors():
    _, task, params = drawn(IsotropicQuadratic(sizes=(3, 4)))
    assert [x.shape for x in params] == [(3,), (4,)]
    agrees(task, params, (), lambda params: sum(np.sum(x**2) for x in params))


@pytest.mark.parametrize("kind", [Bowl, Norm, IsotropicQuadratic])
def test_noise_has_the_stated_spread_and_spares_the_loss(kind):
    cfg, task, x = drawn(kind(noise=0.3))
    calm = kind().task(cfg, ())
    assert task.loss(x, jax.random.key(1), ()) == calm.loss(x, jax.random.key(2), ())
    zeros = jax.tree.map(jnp.zeros_like, x)
    seen = [jax.tree.leaves(distorted(task, zeros, seed))[0] for seed in range(200)]
    np.testing.assert_allclose(np.std(seen), 0.3, rtol=0.15)
    assert not np.any(jax.tree.leaves(distorted(calm, zeros))[0])


def test_bad_fields_are_named():
    with pytest.raises(ValueError, match="power: 0.5 is not allowed; it must be at least 1"):
        Norm(power=0.5)
    with pytest.raises(ValueError, match="condition: -1.0 is not allowed; it must be above 0"):
        Bowl(condition=-1.0)
    with pytest.raises(ValueError, match="sizes: 0 is not allowed"):
        IsotropicQuadratic(sizes=())
