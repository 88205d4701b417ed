import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.descent import trained

from tasks import info
from tasks.data import load
from tasks.families.layers import mlp_apply
from tasks.families.mlp import MLPClassifier


def ready(family, seed=0):
    """A task with its data on the device, starting parameters and a training batch."""
    task = family.task(
        family.sample(jax.random.key(seed)), jax.tree.map(jnp.asarray, family.load())
    )
    key = jax.random.key(seed)
    return task, jax.jit(task.init)(key), jax.jit(task.batch, static_argnums=1)(key, "train")


@pytest.mark.parametrize(
    ("dataset", "image_size", "sizes"),
    [
        ("digits", None, (64, 16, 10)),
        ("patches", 8, (192, 16, 10)),
        ("shapes", None, (144, 16, 8)),
        ("wine", None, (13, 16, 3)),
        ("mnist", 14, (196, 16, 10)),
        ("cifar10", None, (3072, 16, 10)),
    ],
)
def test_sizes_follow_from_the_dataset(dataset, image_size, sizes):
    assert MLPClassifier(dataset=dataset, image_size=image_size).sizes == sizes


def test_centred_colour_images_reach_the_network():
    family = MLPClassifier(dataset="patches", image_size=4, centre=True, activation="sin")
    task, params, batch = ready(family)
    stored = np.asarray(batch["image"], np.float64)
    assert stored.shape == (32, 16, 16, 3)
    x = stored.reshape(32, 4, 4, 4, 4, 3).mean((2, 4)).reshape(32, 48) / 127.5 - 1
    logits = np.asarray(mlp_apply(params, jnp.asarray(x, jnp.float32), "sin"), np.float64)
    log_shares = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -log_shares[np.arange(32), np.asarray(batch["label"])].mean()
    found = task.loss(params, jax.random.key(1), batch)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_dropout_draws_from_the_key_of_the_loss():
    task, params, batch = ready(MLPClassifier(dropout=0.5))
    losses = [float(task.loss(params, jax.random.key(seed), batch)) for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_noisy_labels_cost_what_they_must():
    """A small network learns clean digits and, of noisy ones, little more than their clean part."""
    clean = MLPClassifier(widths=(32,))
    _, after, _ = trained(clean)
    noisy = dataclasses.replace(clean, label_noise=(0.5, 0.5))
    _, still, _ = trained(noisy)
    # Half the labels are right, the rest uniform: the entropy of 0.55 and nine times 0.05.
    entropy = -0.55 * np.log(0.55) - 9 * 0.05 * np.log(0.05)
    assert after < 0.1 and 0.5 * entropy < still < 1.2 * entropy


def test_only_training_labels_are_noisy():
    family = MLPClassifier(label_noise=(1.0, 1.0), subset=(0.1, 0.5))
    task = family.task(family.sample(jax.random.key(0)), jax.tree.map(jnp.asarray, family.load()))
    for split in ("inner_valid", "outer_valid", "test"):
        stored = load("digits")[split]["label"][:512]
        np.testing.assert_array_equal(task.whole(split)["label"], stored)
    seen = np.asarray(task.whole("train")["image"]).reshape(-1, 64)
    share = len(np.unique(seen, axis=0)) / len(load("digits")["train"]["image"])
    assert 0.08 < share <= 0.5


def test_varied_tasks_vmap_like_single_ones():
    family = MLPClassifier(
        initializer="orthogonal",
        norm="layer",
        dropout=0.2,
        initial_scale=(0.1, 10.0),
        label_noise=(0.0, 0.5),
        subset=(0.05, 1.0),
    )
    data = jax.tree.map(jnp.asarray, family.load())

    def slope(key):
        task = family.task(family.sample(key), data)
        params = task.init(key)
        return jax.value_and_grad(task.loss)(params, key, task.batch(key, "train"))

    keys = jax.random.split(jax.random.key(0), 4)
    together = jax.jit(jax.vmap(slope))(keys)
    alone = jax.tree.map(lambda *x: jnp.stack(x), *map(jax.jit(slope), keys))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4), together, alone
    )


def test_a_dataset_with_one_class_is_refused(monkeypatch):
    monkeypatch.setitem(info.INFO, "dots", info.Info("image", (4, 4, 1), classes=1))
    with pytest.raises(
        ValueError, match="dataset: dots is not allowed; .* two classes .* it has 1"
    ):
        MLPClassifier(dataset="dots")
