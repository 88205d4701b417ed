import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.bowls import on, plain

from tasks.augment.batch import ReducedBatch
from tasks.families.synthetic import Quadratic

KEY = jax.random.key(2)


@pytest.mark.parametrize(("fraction", "kept"), [(0.0, 1), (0.5, 4), (0.4, 3), (1.0, 8)])
def test_a_reduced_batch_repeats_its_first_examples(fraction, kept):
    task = plain()
    fewer, _ = on(ReducedBatch(fraction=(fraction, fraction)), task)
    full, reduced = task.batch(KEY, "train"), fewer.batch(KEY, "train")
    for name in ("row", "index"):
        np.testing.assert_array_equal(reduced[name], full[name][np.arange(8) % kept])


def test_other_splits_and_tasks_without_data_stay_as_they_are():
    task = plain()
    fewer, _ = on(ReducedBatch(fraction=(0.1, 0.1)), task)
    for before, after in [
        (task.batch(KEY, "outer_valid"), fewer.batch(KEY, "outer_valid")),
        (task.whole("train"), fewer.whole("train")),
    ]:
        jax.tree.map(np.testing.assert_array_equal, before, after)
    assert on(ReducedBatch(), plain(Quadratic(3)))[0].batch(KEY, "train") == ()


def test_one_program_draws_batches_of_different_sizes():
    task, augmentation = plain(), ReducedBatch()

    @jax.jit
    @jax.vmap
    def sizes(key):
        fewer = augmentation.wrap(task, augmentation.sample(key), jnp.asarray(True))
        rows = fewer.batch(key, "train")["row"][:, 0]
        return jnp.sum(jnp.diff(jnp.sort(rows)) > 0) + 1

    found = np.asarray(sizes(jax.random.split(KEY, 64)))
    assert found.min() <= 2 and found.max() >= 6
