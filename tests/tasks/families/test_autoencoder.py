import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.descent import trained

from tasks import data
from tasks.families.autoencoder import MLPAutoencoder


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("loss", ["mse", "mae"])
@pytest.mark.parametrize("output", ["linear", "sigmoid", "tanh"])
def test_loss_against_numpy(output, loss, reduction):
    family = MLPAutoencoder(
        widths=(5,), activation="tanh", centre=True, output=output, loss=loss, reduction=reduction
    )
    cfg = family.sample(jax.random.key(0))
    task = family.task(cfg, {})
    params = task.init(jax.random.key(1))
    image = data.load("digits")["train"]["image"][:6]
    found = task.loss(params, jax.random.key(2), {"image": jnp.asarray(image)})
    x = image.reshape(6, 64) / 8.0 - 1
    first, last = (jax.tree.map(np.float64, params[f"layer{i}"]) for i in range(2))
    out = np.tanh(x @ first["weight"] + first["bias"]) @ last["weight"] + last["bias"]
    out = {"linear": out, "sigmoid": 1 / (1 + np.exp(-out)), "tanh": np.tanh(out)}[output]
    error = (out - x) ** 2 if loss == "mse" else np.abs(out - x)
    expected = error.mean() if reduction == "mean" else error.sum(1).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_images_shrink_and_are_learned():
    family = MLPAutoencoder(image_size=4, widths=(24,), initializer="he_normal")
    assert family.sizes == (16, 24, 16)
    before, after, _ = trained(family)
    images = data.load("digits")["train"]["image"].reshape(-1, 4, 2, 4, 2).mean((2, 4)) / 16
    assert after < 0.5 * images.reshape(-1, 16).var(0).mean() < 0.5 * before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "wine"}, "dataset: unknown name 'wine'"),
        ({"dataset": "digit"}, "did you mean digits"),
        ({"image_size": 9}, "image_size: 9 is not allowed"),
        ({"output": "softmax"}, "output: unknown name"),
        ({"loss": "cross_entropy"}, "loss: unknown name"),
        ({"reduction": "max"}, "reduction: unknown name"),
        ({"widths": (4, 0)}, "widths: 0"),
        ({"subset": (0.5, 1.5)}, "subset"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        MLPAutoencoder(**fields)
