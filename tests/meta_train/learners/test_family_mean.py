"""Mean, noise and scale of a family's gradient against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.learners.family_mean import DECAY, family_factor, family_gradient, mean_metric
from meta_train.parallel import AXIS

SHARDS, TASKS = 2, 3


def joined(function, *trees):
    """What all shards agree on."""
    out = jax.vmap(function, axis_name=AXIS)(*trees)
    for leaf in jax.tree.leaves(out):
        np.testing.assert_array_equal(leaf[0], leaf[1])
    return jax.tree.map(lambda x: np.asarray(x[0]), out)


def gradients(seed=0):
    draw = np.random.default_rng(seed)
    shapes = {"w": (SHARDS, TASKS, 2, 2), "b": (SHARDS, TASKS, 5)}
    return {name: draw.normal(1.0, 1.0, shape).astype(np.float32) for name, shape in shapes.items()}


def flat(tree):
    return np.concatenate([x.reshape(SHARDS * TASKS, -1) for x in tree.values()], 1, dtype=float)


def test_the_mean_over_shards_and_the_noise_of_that_mean():
    tree = gradients()
    family = joined(family_gradient, tree)
    rows = flat(tree)
    mean = rows.mean(0)
    got = np.concatenate([family.mean["w"].ravel(), family.mean["b"]])
    np.testing.assert_allclose(got, mean, rtol=1e-5)
    np.testing.assert_allclose(family.norm, np.linalg.norm(mean), rtol=1e-5)
    np.testing.assert_allclose(family.noise, rows.var(0, ddof=1).sum() / len(rows), rtol=1e-5)
    assert family.accepted == SHARDS * TASKS


def test_tasks_without_a_finite_gradient_are_left_out():
    tree = gradients()
    tree["b"][1, 2, 0] = np.nan
    family = joined(family_gradient, tree)
    rows = flat(tree)[:-1]
    assert family.accepted == SHARDS * TASKS - 1
    np.testing.assert_allclose(family.norm, np.linalg.norm(rows.mean(0)), rtol=1e-5)
    np.testing.assert_allclose(family.noise, rows.var(0, ddof=1).sum() / len(rows), rtol=1e-5)


def test_pure_noise_has_a_signal_to_noise_of_about_one():
    draws = jax.random.normal(jax.random.key(0), (400, 1, 16, 50))
    ratio = jax.jit(
        jax.vmap(
            lambda g: jax.vmap(lambda t: family_gradient(t).signal_to_noise, axis_name=AXIS)(g)
        )
    )(draws)
    np.testing.assert_allclose(np.median(ratio), 1.0, atol=0.1)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [("none", 1.0), ("unit_norm", 1 / 3), ("running_rms", (DECAY * 4 + (1 - DECAY) * 9) ** -0.5)],
)
def test_factors(scale, expected):
    one = np.full((SHARDS, TASKS, 9), 1.0, np.float32)
    factor, rms = joined(
        lambda g: family_factor(scale, family_gradient({"w": g}), jnp.float32(2.0)), one
    )
    np.testing.assert_allclose(factor, expected, rtol=1e-6)
    np.testing.assert_allclose(rms, (DECAY * 4 + (1 - DECAY) * 9) ** 0.5, rtol=1e-6)


def test_a_family_that_overflows_leaves_its_record_alone():
    huge = np.full((SHARDS, TASKS, 4), 3e38, np.float32)
    family, (factor, rms) = joined(
        lambda g: (
            family_gradient({"w": g}),
            family_factor("running_rms", family_gradient({"w": g}), jnp.float32(2.0)),
        ),
        huge,
    )
    assert not family.usable and (family.mean["w"] == 0.0).all()
    assert factor == 1.0 and rms == 2.0


def test_a_family_without_any_gradient_leaves_its_record_alone():
    lost = np.full((SHARDS, TASKS, 4), np.nan, np.float32)
    family, (factor, rms) = joined(
        lambda g: (
            family_gradient({"w": g}),
            family_factor("running_rms", family_gradient({"w": g}), jnp.float32(2.0)),
        ),
        lost,
    )
    assert not family.usable and family.accepted == 0.0 and factor == 1.0 and rms == 2.0


def test_metrics_are_means_over_those_that_have_one():
    values = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, 5.0]], np.float32)
    np.testing.assert_allclose(joined(mean_metric, values), 3.0)
    assert np.isnan(joined(mean_metric, np.full((2, 3), np.nan, np.float32)))
