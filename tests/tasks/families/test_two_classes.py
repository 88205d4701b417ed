import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.oracles import agrees, drawn

from tasks.families.two_classes import (
    LogisticRegression,
    RandomMLPClassifier,
    SparseSoftmaxRegression,
)


def penalised(logits, label, tensors):
    """Softmax cross-entropy over both columns and the weight penalty, in NumPy."""
    likelihood = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    loss = -np.mean(np.log(likelihood[np.arange(len(label)), label]))
    return loss + 1e-3 * np.mean([np.sum(tensor**2) for tensor in tensors])


def test_logistic_regression_in_numpy():
    _, task, params = drawn(LogisticRegression(features=3, batch_size=8))
    batch = task.batch(jax.random.key(1), "train")

    def formula(params):
        logits = np.float64(batch["features"]) @ params["weight"] + params["bias"]
        return penalised(logits, np.asarray(batch["label"]), params.values())

    agrees(task, params, batch, formula)


def test_mlp_in_numpy():
    _, task, params = drawn(RandomMLPClassifier(features=3, widths=(4, 2), batch_size=8))
    batch = task.batch(jax.random.key(1), "train")

    def formula(params):
        x = np.float64(batch["features"])
        for i in range(3):
            layer = params[f"layer{i}"]
            x = x @ layer["weight"] + layer["bias"]
            x = x if i == 2 else 1 / (1 + np.exp(-x))
        return penalised(x, np.asarray(batch["label"]), jax.tree.leaves(params))

    agrees(task, params, batch, formula)


@pytest.mark.parametrize("one_hot", [False, True])
def test_sparse_softmax_in_numpy(one_hot):
    _, task, params = drawn(SparseSoftmaxRegression(one_hot=one_hot))
    batch = task.batch(jax.random.key(1), "train")
    assert len(batch["label"]) == 5  # fewer than a batch: all of them

    def formula(params):
        x = np.array(
            [sum(params["embedding"][bit] for bit in row) for row in np.asarray(batch["bits"])]
        )
        return penalised(
            x @ params["weight"] + params["bias"], np.asarray(batch["label"]), params.values()
        )

    agrees(task, params, batch, formula)


def test_clusters_lie_around_corners_and_nearly_all_labels_are_theirs():
    cfg, _, _ = drawn(LogisticRegression(features=4, examples=8000, separation=50.0))
    examples = jax.device_get(cfg["train"])
    signs = (examples["features"] > 0).astype(int) @ [1, 2, 4, 8]
    corners, counts = np.unique(signs, return_counts=True)
    assert len(corners) == 4 and np.all(counts == 2000)
    rates = np.sort([examples["label"][signs == corner].mean() for corner in corners])
    np.testing.assert_allclose(rates, [0.005, 0.005, 0.995, 0.995], atol=0.006)
    for corner in corners:
        centre = np.abs(examples["features"][signs == corner].mean(0))
        np.testing.assert_allclose(centre, 50, atol=0.3)


def test_parity_labels_are_right_three_times_in_four():
    cfg, _, _ = drawn(SparseSoftmaxRegression(examples=8000))
    bits, label = np.asarray(cfg["train"]["bits"]), np.asarray(cfg["train"]["label"])
    np.testing.assert_allclose(np.mean(bits), 0.5, atol=0.02)
    np.testing.assert_allclose(np.mean(bits.sum(1) % 2 == label), 0.75, atol=0.02)


def test_starts_have_the_stated_spread_in_weights_and_biases():
    _, _, params = drawn(LogisticRegression(features=400))
    np.testing.assert_allclose(np.std(params["weight"]), 1.2 / 20, rtol=0.1)
    _, _, params = drawn(RandomMLPClassifier(features=4, widths=(2000,)))
    np.testing.assert_allclose(np.std(params["layer0"]["weight"]), 0.6, rtol=0.1)
    bias = np.std(params["layer0"]["bias"])
    np.testing.assert_allclose(bias, 1.2 / np.sqrt(2000), rtol=0.1)


@pytest.mark.slow
def test_separated_classes_can_be_learnt():
    _, task, params = drawn(LogisticRegression(features=10, examples=200, separation=4.0))
    whole = task.whole("train")

    @jax.jit
    def descend(params):
        def step(params, _):
            grads = jax.grad(task.loss)(params, jax.random.key(0), whole)
            return jax.tree.map(lambda p, g: p - 0.05 * g, params, grads), None

        return jax.lax.scan(step, params, length=500)[0]

    after = task.loss(descend(params), jax.random.key(0), whole)
    assert after < 0.65 < task.loss(jax.tree.map(jnp.zeros_like, params), jax.random.key(0), whole)


def test_bad_fields_are_named():
    with pytest.raises(ValueError, match="features: 1 is not allowed; it must be at least 2"):
        LogisticRegression(features=1)
    with pytest.raises(ValueError, match="activation: unknown name 'sigmoyd'"):
        RandomMLPClassifier(activation="sigmoyd")
