"""What becomes of gradients, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.bowls import on, plain, seen

from tasks.augment.gradient import (
    AsynchronousDelay,
    GradientNoise,
    NormalisedGradient,
    RandomSubspace,
    SparseGradient,
)

LARGE = {"a": jnp.ones(4000), "b": jnp.full((2, 2), -3.0)}
SMALL = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}


def logs(augmentation, field):
    draw = jax.vmap(lambda key: augmentation.sample(key)[field])
    return np.log(np.asarray(draw(jax.random.split(jax.random.key(0), 2000))))


def test_noise_has_the_drawn_deviation_and_is_new_at_every_step():
    task, cfg = on(GradientNoise(), plain())
    first, second = seen(task, [LARGE, LARGE], LARGE)
    np.testing.assert_allclose(np.mean(first["a"]), 1.0, atol=4 * cfg["std"] / 4000**0.5)
    np.testing.assert_allclose(np.std(first["a"]), cfg["std"], rtol=0.05)
    assert np.all(np.asarray(first["a"] != second["a"]))
    drawn = logs(GradientNoise(std=(0.01, 1.0)), "std")
    np.testing.assert_allclose(np.quantile(drawn, [0, 0.5, 1]), np.log([0.01, 0.1, 1]), atol=0.2)


def test_sparse_gradients_lose_the_drawn_share_of_entries():
    task, cfg = on(SparseGradient(zero=(0.2, 0.9)), plain())
    first, second = (np.asarray(tree["a"]) for tree in seen(task, [LARGE, LARGE], LARGE))
    assert set(np.unique(first)) == {0.0, 1.0} and np.any(first != second)
    np.testing.assert_allclose(np.mean(first == 0), cfg["zero"], atol=0.03)
    (none,) = seen(on(SparseGradient(zero=(1.0, 1.0)), plain())[0], [LARGE], LARGE)
    assert not np.any(np.asarray(none["a"]))


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_a_normalised_gradient_has_norm_1_over_all_tensors(size):
    task, _ = on(NormalisedGradient(), plain())
    (found,) = seen(task, [jax.tree.map(lambda leaf: size * leaf, SMALL)], SMALL)
    np.testing.assert_allclose(found["a"], [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(found["b"], [[0.8]], rtol=1e-6)


def test_a_gradient_of_zero_stays_zero():
    task, _ = on(NormalisedGradient(), plain())
    (found,) = seen(task, [jax.tree.map(jnp.zeros_like, SMALL)], SMALL)
    assert not any(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize(("dimension", "rank"), [(1, 1), (4, 4), (7, 7), (10, 10), (50, 10)])
def test_a_subspace_gradient_is_an_orthogonal_projection_of_the_drawn_rank(dimension, rank):
    task, cfg = on(RandomSubspace(dimension=(dimension, dimension)), plain())
    params = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(4)}
    basis = [{"a": row[:6].reshape(2, 3), "b": row[6:]} for row in jnp.eye(10)]
    columns = seen(task, basis, params)
    matrix = np.stack([np.concatenate([c["a"].ravel(), c["b"]]) for c in columns])
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    np.testing.assert_allclose(matrix @ matrix, matrix, atol=1e-6)
    assert np.linalg.matrix_rank(matrix, tol=1e-3) == rank and cfg["dimension"] == dimension
    other, _ = on(RandomSubspace(dimension=(dimension, dimension)), plain(), seed=1)
    same = jax.tree.map(lambda a, b: bool(jnp.all(a == b)), seen(other, basis, params), columns)
    assert all(jax.tree.leaves(same)) == (rank == 10)


def test_dimensions_are_log_uniform():
    counts, _ = np.histogram(logs(RandomSubspace(), "dimension") / np.log(2), bins=5, range=(0, 10))
    assert counts.sum() == 2000 and np.abs(counts - 400).max() < 100


@pytest.mark.parametrize(
    ("delay", "wanted"),
    [
        (1, [0, 0, 1, 2, 3, 4, 5, 6]),
        (3, [0, 0, 0, 0, 1, 2, 3, 4]),
        (4, [0, 0, 0, 0, 0, 1, 2, 3]),
    ],
)
def test_a_delayed_gradient_is_that_of_some_steps_ago(delay, wanted):
    augmentation = AsynchronousDelay(steps=(1, 4))
    task = augmentation.wrap(plain(), jnp.asarray(delay), jnp.asarray(True))
    steps = [{"a": jnp.full(2, float(i)), "b": jnp.full((1, 1), float(-i))} for i in range(8)]
    found = seen(task, steps, SMALL)
    np.testing.assert_array_equal([tree["a"][1] for tree in found], wanted)
    np.testing.assert_array_equal([-tree["b"][0, 0] for tree in found], wanted)


def test_delays_are_uniform():
    draw = jax.vmap(AsynchronousDelay(steps=(2, 5)).sample)
    drawn = np.asarray(draw(jax.random.split(jax.random.key(0), 2000)))
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [2, 3, 4, 5] and np.abs(counts - 500).max() < 100
