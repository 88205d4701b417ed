import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import data
from tasks.base import SPLITS
from tasks.families.cnn import CNNClassifier
from tasks.families.dynamics import Variation
from tasks.families.layers import (
    affine,
    cross_entropy,
    mlp_apply,
    mlp_init,
    squared_hinge,
    standardise,
    with_layer_norm,
)
from tasks.families.mlp import DenoisingAutoencoder, MLPClassifier, SoftmaxRegression


def size(family):
    shapes = jax.eval_shape(
        lambda data, key: family.task(family.sample(key), data).init(key),
        family.load(),
        jax.random.key(0),
    )
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    ("family", "count"),
    [
        (SoftmaxRegression(), 10 * 5 + 5),
        (MLPClassifier(), 64 * 16 + 16 + 16 * 10 + 10),
        (MLPClassifier(image_size=4, widths=()), 16 * 10 + 10),
        (MLPClassifier(widths=(8, 8), norm="layer"), 520 + 72 + 90 + 4 * 8),
        (CNNClassifier(channels=(4, 6), groups=2), 36 + 4 + 216 + 6 + 2 * 10 + 60 + 10),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_weights_are_as_many_as_the_fields_say(family, count):
    assert size(family) == count


def test_losses_against_their_definitions():
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(6, 3)), np.array([0, 1, 2, 2, 1, 0])
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(shares[np.arange(6), label]).mean()
    np.testing.assert_allclose(
        cross_entropy(jnp.array(logits), jnp.array(label)), expected, rtol=1e-5
    )
    sign = np.where(np.arange(3) == label[:, None], 1, -1)
    hinge = (np.maximum(0, 1 - sign * logits) ** 2).sum(1).mean()
    np.testing.assert_allclose(squared_hinge(jnp.array(logits), jnp.array(label)), hinge, rtol=1e-5)


def test_mlp_with_layer_norm_against_numpy():
    params = with_layer_norm(mlp_init(jax.random.key(0), (5, 4, 3)))
    params["layer0"]["gain"] = jnp.arange(1.0, 5.0)
    params["layer0"]["offset"] = jnp.arange(4.0)
    x = np.random.default_rng(0).normal(size=(2, 5))
    first, last = params["layer0"], params["layer1"]
    hidden = x @ np.float64(first["weight"])
    hidden = (hidden - hidden.mean(1, keepdims=True)) / hidden.std(1, keepdims=True)
    hidden = np.tanh(hidden * np.float64(first["gain"]) + np.float64(first["offset"]))
    expected = hidden @ np.float64(last["weight"])
    np.testing.assert_allclose(mlp_apply(params, jnp.array(x), "tanh"), expected, rtol=1e-3)


def test_features_are_standardised_by_the_train_split():
    parts = data.load("wine")
    done = standardise(parts)
    np.testing.assert_allclose(done["train"]["features"].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(done["train"]["features"].std(0), 1, rtol=1e-5)
    assert np.abs(done["test"]["features"].mean(0)).max() > 1e-3
    np.testing.assert_array_equal(done["test"]["label"], parts["test"]["label"])


def test_initial_scale_multiplies_the_starting_weights():
    family = MLPClassifier(initial_scale=(0.1, 10.0))
    keys = jax.random.split(jax.random.key(0), 500)
    scale = np.asarray(jax.jit(jax.vmap(family.sample))(keys).scale)
    assert 0.1 <= scale.min() < 0.15 and 7 < scale.max() <= 10
    np.testing.assert_allclose(np.median(np.log10(scale)), 0, atol=0.15)
    one, two = (
        family.task(Variation(jnp.float32(s), None, None), None).init(jax.random.key(1))["layer0"][
            "weight"
        ]
        for s in (1, 2)
    )
    np.testing.assert_allclose(two, 2 * one, rtol=1e-6)
    np.testing.assert_allclose(one.std(), 1 / 8, rtol=0.1)


def test_clusters_are_learnable_and_their_splits_differ():
    family = SoftmaxRegression(separation=(10.0, 10.0), batch_size=8)
    cfg = jax.jit(family.sample)(jax.random.key(0))
    task = family.task(cfg, ())
    # The Bayes rule of equal normal clusters is linear in the features.
    best = {"weight": cfg["centres"].T, "bias": -0.5 * jnp.sum(cfg["centres"] ** 2, 1)}
    whole = jax.jit(task.whole, static_argnums=0)("test")
    assert cross_entropy(affine(best, whole["features"]), whole["label"]) < 0.05
    draw = jax.jit(lambda key: [task.batch(key, split)["features"] for split in SPLITS])
    batches = draw(jax.random.key(1))
    assert all(np.any(batches[0] != other) for other in batches[1:])


def test_autoencoder_is_judged_against_the_clean_digit():
    family = DenoisingAutoencoder(widths=(), noise=0.5)
    task = family.task((), jax.tree.map(jnp.asarray, family.load()))
    copy = {"layer0": {"weight": jnp.eye(64), "bias": jnp.zeros(64)}}
    loss = task.loss(copy, jax.random.key(0), task.whole("train"))
    np.testing.assert_allclose(loss, 0.25, rtol=0.05)  # what a copy leaves is the noise


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: MLPClassifier(dataset="digit"),
            "dataset: .*; did you mean digits",
        ),
        (lambda: MLPClassifier(activation="rellu"), "did you mean relu"),
        (lambda: MLPClassifier(image_size=9), "image_size: 9 is not allowed; .* must be 1 to 8"),
        (lambda: MLPClassifier(dataset="wine", image_size=4), "image_size: 4 .* has no images"),
        (lambda: MLPClassifier(dataset="wine", centre=True), "centre: True .* has no images"),
        (lambda: MLPClassifier(dataset="diabetes"), "dataset: diabetes .* two classes"),
        (lambda: MLPClassifier(dataset="corpus"), "dataset: unknown name 'corpus'"),
        (lambda: MLPClassifier(norm="batch"), "norm: unknown name"),
        (lambda: MLPClassifier(initializer="he_norm"), "did you mean he_normal"),
        (lambda: MLPClassifier(dropout=1.0), "dropout: 1.0 is not allowed"),
        (lambda: MLPClassifier(loss="hubert"), "did you mean huber"),
        (lambda: MLPClassifier(label_noise=(0.0, 2.0)), "label_noise"),
        (lambda: MLPClassifier(subset=(0.0, 1.0)), "subset"),
        (lambda: MLPClassifier(widths=(3, 0)), "widths: 0 is not allowed"),
        (lambda: MLPClassifier(initial_scale=(2, 1)), "initial_scale: .* 0 < low <= high"),
        (lambda: CNNClassifier(channels=(6,), groups=4), "groups: 4 is not allowed"),
        (lambda: SoftmaxRegression(classes=1), "classes: 1"),
    ],
)
def test_bad_fields_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
