"""What a pair's losses count for, alone and among the pairs of a family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import rankdata

from meta_train.estimators.shaping import contrast
from meta_train.parallel import AXIS, TASKS

ALL = jnp.ones(3, bool)


@pytest.mark.parametrize(
    ("shaping", "clip", "expected"),
    [
        ("difference", None, -2.0),
        ("difference", 0.5, -0.5),
        ("difference", 5.0, -2.0),
        ("sign", None, -1.0),
    ],
)
def test_a_pair_alone(shaping, clip, expected):
    value = jnp.asarray([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    assert contrast(shaping, clip, value, ALL) == expected
    assert contrast(shaping, clip, value[::-1], ALL) == -expected
    assert contrast(shaping, clip, value, ~ALL) == 0.0
    late = contrast("difference", None, value, jnp.array([False, True, True]))
    assert late == -2.5


@pytest.mark.parametrize("shards", [1, 2])
def test_ranks_are_those_of_the_whole_family(shards):
    """With ties, and pairs that have nothing to compare left out."""
    value = np.round(np.random.default_rng(0).normal(size=(6, 2, 3)) * 3)
    counts = np.ones((6, 3), bool)
    counts[1], counts[4, 0] = False, False
    value[3] = value[2]
    one = lambda value, counts: contrast("ranks", None, value, counts)
    run = jax.vmap(jax.vmap(one, axis_name=TASKS), axis_name=AXIS)
    cut = lambda x: jnp.asarray(x, x.dtype if x.dtype == bool else jnp.float32).reshape(
        shards, -1, *x.shape[1:]
    )
    found = np.ravel(run(cut(value), cut(counts)))
    means = np.array(
        [np.mean(v[:, c], axis=1) for v, c in zip(value, counts, strict=True) if c.any()]
    )
    ranks = (rankdata(means.astype(np.float32)).reshape(means.shape) - 1) / (means.size - 1) - 0.5
    np.testing.assert_allclose(np.delete(found, 1), ranks[:, 0] - ranks[:, 1], atol=1e-6)
    assert found[1] == 0.0 and np.abs(found).max() > 0.2
