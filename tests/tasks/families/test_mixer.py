import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.descent import trained

from tasks.families.mixer import MLPMixer, cut


def test_patches_are_squares_of_the_image():
    image = np.random.default_rng(0).normal(size=(2, 6, 9, 2)).astype(np.float32)
    tokens = cut(jnp.array(image), 3)
    assert tokens.shape == (2, 6, 18)
    np.testing.assert_array_equal(tokens[1, 4], image[1, 3:6, 3:6].ravel())


def test_the_network_against_numpy():
    family = MLPMixer(width=5, token_width=3, channel_width=7, depth=2)
    params = family.task((), {}).init(jax.random.key(0))
    params["block0"]["token_gain"] = jnp.arange(1.0, 6.0)
    params["block1"]["channel_gain"] = jnp.arange(2.0, 7.0)
    image = np.random.default_rng(0).integers(0, 17, (3, 8, 8)).astype(np.uint8)
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def normal(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)

    def layer(part, x):
        return x @ part["weight"] + part["bias"]

    def mish(x):
        return x * np.tanh(np.log1p(np.exp(x)))

    corners = [(0, 0), (0, 4), (4, 0), (4, 4)]
    tokens = np.stack([image[:, i : i + 4, j : j + 4].reshape(3, 16) for i, j in corners], 1)
    x = layer(weights["inward"], tokens / 8 - 1)
    for block in (weights["block0"], weights["block1"]):
        turned = np.swapaxes(normal(x) * block["token_gain"], 1, 2)
        mixed = layer(block["token_down"], mish(layer(block["token_up"], turned)))
        x = x + np.swapaxes(mixed, 1, 2)
        inner = mish(layer(block["channel_up"], normal(x) * block["channel_gain"]))
        x = x + layer(block["channel_down"], inner)
    expected = layer(weights["outward"], normal(x).mean(1))
    np.testing.assert_allclose(family.logits(params, jnp.array(image)), expected, atol=1e-4)


@pytest.mark.slow
def test_images_are_learned_from_near_chance():
    first, last, _ = trained(MLPMixer(width=16))
    assert np.log(10) - 0.5 < first < np.log(10) + 1.5 and last < 0.8


def test_bad_fields_are_named():
    with pytest.raises(ValueError, match="dataset: unknown name 'wine'"):
        MLPMixer("wine")
    with pytest.raises(ValueError, match="patch: 3 is not allowed; it must divide images of 8x8"):
        MLPMixer(patch=3)
    with pytest.raises(ValueError, match="image_size: 9 is not allowed"):
        MLPMixer(image_size=9)
    assert MLPMixer("shapes", patch=3).loss == "cross_entropy"
