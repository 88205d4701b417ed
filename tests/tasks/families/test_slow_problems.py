import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.oracles import agrees, drawn

from tasks.base import SPLITS
from tasks.families.slow_problems import (
    DependencyChain,
    MinMaxWell,
    OutwardSnake,
    ProjectionQuadratic,
    SumOfQuadratics,
)

OVER_DATA = (OutwardSnake, ProjectionQuadratic, SumOfQuadratics)


def test_each_link_of_the_chain_divides_the_next():
    _, task, x = drawn(DependencyChain(dim=5))
    assert x.shape == (6,)

    def formula(x):
        return sum(x[0] ** 2 + x[i] ** 2 / (x[i - 1] ** 2 + 1e-6) for i in range(1, 6))

    agrees(task, x, (), formula)
    assert task.loss(jnp.zeros(6), jax.random.key(0), ()) == 0 == task.lower_bound


def test_the_well_sees_the_largest_and_the_smallest_entry():
    _, task, x = drawn(MinMaxWell(dim=6))
    agrees(task, x, (), lambda x: np.max(x**2) + 1 / np.min(x**2) - 2 + 1e-12)
    grad = jax.grad(task.loss)(x, jax.random.key(0), ())
    assert np.count_nonzero(grad) == 2
    floor = task.loss(jnp.array([1.0, -1, 1, -1, 1, 1]), jax.random.key(0), ())
    np.testing.assert_allclose(floor, 1e-12)
    near = 1 + 1e-4 * jax.random.normal(jax.random.key(0), (500, 6))
    assert np.all(jax.vmap(lambda x: task.loss(x, jax.random.key(0), ()))(near) >= 0)


def test_the_snake_on_its_examples():
    _, task, x = drawn(OutwardSnake(dim=5, examples=40, batch_size=8))
    batch = task.batch(jax.random.key(1), "train")
    assert batch.shape == (8, 5) and set(np.unique(batch)) == {0.0, 1.0}

    def formula(x):
        total = np.sum(np.float64(batch[:, 0])) / (np.linalg.norm(x) + 1e-6)
        for row in np.float64(batch):
            total += sum((row[j] * (x[j] - np.pi * np.cos(x[j - 1]))) ** 2 for j in range(1, 5))
        return total

    agrees(task, x, batch, formula)
    centre = jax.grad(task.loss)(jnp.zeros(5), jax.random.key(0), batch)
    assert np.all(np.isfinite(centre))


def test_along_the_valley_the_snake_falls_towards_zero():
    _, task, _ = drawn(OutwardSnake(dim=3))
    losses = []
    for head in (10 * np.pi, 1000 * np.pi):
        second = np.pi * np.cos(head)
        point = jnp.array([head, second, np.pi * np.cos(second)], jnp.float32)
        losses.append(task.loss(point, jax.random.key(0), task.whole("train")))
    assert 0 < losses[1] < losses[0] / 50


def test_projection_is_least_at_zero_for_every_batch():
    _, task, x = drawn(ProjectionQuadratic(dim=4, examples=20, batch_size=6))
    batch = task.batch(jax.random.key(1), "train")
    agrees(task, x, batch, lambda x: sum(np.sum((x * row) ** 2) for row in np.float64(batch)))
    assert task.loss(jnp.zeros(4), jax.random.key(0), batch) == 0


def test_sum_of_quadratics_is_the_sum_of_distances_without_the_examples():
    _, task, x = drawn(SumOfQuadratics(dim=4, examples=20, batch_size=6))

    def formula(batch):
        rows = np.float64(batch)
        return lambda x: np.sum((x - rows) ** 2) - np.sum(rows**2) + 1e-12

    agrees(
        task,
        3 * x,
        task.batch(jax.random.key(1), "train"),
        formula(task.batch(jax.random.key(1), "train")),
    )
    whole = task.whole("train")
    agrees(task, x, whole, formula(whole))
    np.testing.assert_allclose(task.loss(jnp.zeros(4), jax.random.key(0), whole), 1e-12)
    lopsided = jnp.ones((6, 4))
    slope = jax.value_and_grad(task.loss)(jnp.full(4, 0.5), jax.random.key(0), lopsided)
    np.testing.assert_allclose(slope[0], 1e-12)
    assert not np.any(slope[1])


@pytest.mark.parametrize("kind", OVER_DATA)
def test_losses_over_data_are_sums(kind):
    _, task, x = drawn(kind(dim=4))
    batch = task.batch(jax.random.key(1), "train")
    twice = jnp.concatenate([batch, batch])
    key = jax.random.key(0)
    np.testing.assert_allclose(task.loss(x, key, twice), 2 * task.loss(x, key, batch), rtol=1e-5)


@pytest.mark.parametrize("kind", OVER_DATA)
def test_examples_stay_in_their_split_and_a_seed_fixes_them(kind):
    cfg, task, _ = drawn(kind(dim=30, examples=300, batch_size=64, seed=1))
    other, _, _ = drawn(kind(dim=30, examples=300, batch_size=64, seed=1), seed=5)
    jax.tree.map(np.testing.assert_array_equal, cfg, other)
    rows = {split: {row.tobytes() for row in np.asarray(cfg[split])} for split in SPLITS}
    assert len(cfg["train"]) == 300 and len(cfg["test"]) == 256
    for split in SPLITS:
        batch = np.asarray(task.batch(jax.random.key(2), split))
        assert {row.tobytes() for row in batch} <= rows[split]
        assert all(not rows[split] & rows[each] for each in SPLITS if each != split)
    free, _, _ = drawn(kind(dim=30, examples=300))
    assert np.any(np.asarray(free["train"]) != np.asarray(cfg["train"]))


def test_a_batch_beyond_the_examples_is_all_of_them():
    _, task, _ = drawn(ProjectionQuadratic(examples=10, batch_size=32))
    for seed in (0, 1):
        batch = task.batch(jax.random.key(seed), "train")
        np.testing.assert_array_equal(batch, task.whole("train"))


def test_bad_fields_are_named():
    with pytest.raises(ValueError, match="examples: 7 is not allowed; it must be even"):
        SumOfQuadratics(examples=7)
    with pytest.raises(ValueError, match="batch_size: 0 is not allowed"):
        OutwardSnake(batch_size=0)
    with pytest.raises(ValueError, match="noise: -1.0 is not allowed"):
        MinMaxWell(noise=-1.0)
