import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import sampling
from tasks.families.dynamics import check_bounds, draw, minibatch, whole

COUNT = 200
CLASSES = 4


def stored():
    """Splits whose features say which example it is."""
    return {
        split: {
            "features": jnp.arange(COUNT, dtype=jnp.float32)[:, None],
            "label": jnp.asarray(np.arange(COUNT) % CLASSES, jnp.uint8),
        }
        for split in ("train", "test")
    }


@functools.partial(jax.jit, static_argnums=0)
def large_batch(split, variation, key):
    return minibatch(key, 4000, stored(), split, variation, CLASSES)


def seen(variation, split, key):
    batch = large_batch(split, variation, key)
    return np.asarray(batch["features"])[:, 0].astype(int), np.asarray(batch["label"])


def test_without_variation_it_is_the_plain_minibatch():
    variation = draw(jax.random.key(0))
    assert variation.scale == 1 and len(jax.tree.leaves(variation)) == 1
    key = jax.random.key(1)
    expected = sampling.minibatch(key, 10, stored()["train"])
    found = minibatch(key, 10, stored(), "train", variation)
    jax.tree.map(np.testing.assert_array_equal, expected, found)
    assert whole(7, stored(), "train", variation)["label"].shape == (7,)


def test_a_window_shows_a_contiguous_share_of_the_train_split():
    places = set()
    for seed in range(5):
        variation = draw(jax.random.key(seed), subset=(0.1, 0.1))
        index, label = seen(variation, "train", jax.random.key(9))
        assert len(set(index)) == 20 and np.ptp(index) == 19  # 0.1 of 200
        np.testing.assert_array_equal(label, index % CLASSES)
        places.add(int(index.min()))
        same = whole(30, stored(), "train", variation)["features"][:, 0]
        np.testing.assert_array_equal(same, index.min() + np.arange(30) % 20)
        assert len(set(seen(variation, "test", jax.random.key(9))[0])) == COUNT
    assert len(places) > 2


def test_window_shares_are_uniform_and_no_window_is_empty():
    keys = jax.random.split(jax.random.key(0), 500)
    share = jax.vmap(lambda key: jax.tree.leaves(draw(key, subset=(0.2, 0.6)).window)[0])(keys)
    np.testing.assert_allclose(np.quantile(share, [0, 0.5, 1]), [0.2, 0.4, 0.6], atol=0.03)
    index, _ = seen(draw(jax.random.key(0), subset=(1e-6, 1e-6)), "train", jax.random.key(1))
    assert len(set(index)) == 1


def test_wrong_labels_are_a_share_and_stay_the_same():
    variation = draw(jax.random.key(0), label_noise=(0.4, 0.4))
    index, label = seen(variation, "train", jax.random.key(1))
    again, later = seen(variation, "train", jax.random.key(2))
    first, second = dict(zip(index, label, strict=True)), dict(zip(again, later, strict=True))
    assert all(second[i] == first[i] for i in first if i in second)
    assert label.dtype == np.uint8 and label.max() < CLASSES
    wrong = np.array([first[i] != i % CLASSES for i in sorted(first)])
    np.testing.assert_allclose(wrong.mean(), 0.4 * (1 - 1 / CLASSES), atol=0.1)  # 3 sd: 0.1
    held = whole(COUNT, stored(), "train", variation, CLASSES)["label"]
    np.testing.assert_array_equal(held, [first[i] for i in range(COUNT)])
    index, label = seen(variation, "test", jax.random.key(1))
    np.testing.assert_array_equal(label, index % CLASSES)
    other = draw(jax.random.key(3), label_noise=(0.4, 0.4))
    assert np.any(whole(COUNT, stored(), "train", other, CLASSES)["label"] != held)


def test_full_noise_replaces_every_label():
    variation = draw(jax.random.key(0), label_noise=(1.0, 1.0))
    _, label = seen(variation, "train", jax.random.key(1))
    counts = np.bincount(np.asarray(whole(COUNT, stored(), "train", variation, CLASSES)["label"]))
    assert set(label) == set(range(CLASSES)) and counts.max() < 80
    right = np.asarray(whole(COUNT, stored(), "train", variation, CLASSES)["label"])
    np.testing.assert_allclose((right == np.arange(COUNT) % CLASSES).mean(), 0.25, atol=0.1)


@pytest.mark.slow
def test_varied_batches_vmap_like_single_ones():
    variations = jax.vmap(lambda key: draw(key, (0.1, 10), (0, 1), (0.1, 1)))(
        jax.random.split(jax.random.key(0), 4)
    )
    draw_one = lambda v: minibatch(jax.random.key(5), 16, stored(), "train", v, CLASSES)
    batches, draw_one = jax.jit(jax.vmap(draw_one))(variations), jax.jit(draw_one)
    for task in range(4):
        one = jax.tree.map(lambda x, task=task: x[task], variations)
        single = draw_one(one)
        jax.tree.map(
            lambda a, b, task=task: np.testing.assert_array_equal(a[task], b), batches, single
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"initial_scale": (0.0, 1.0)}, "initial_scale: .* 0 < low <= high"),
        ({"label_noise": (0.5, 1.5)}, "label_noise: .* 0 <= low <= high <= 1"),
        ({"label_noise": (0.5, 0.1)}, "label_noise"),
        ({"subset": (0.0, 1.0)}, "subset"),
        ({"subset": (0.5, 2.0)}, "subset: .* <= 1"),
    ],
)
def test_bounds_that_mean_nothing_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        check_bounds(**fields)
