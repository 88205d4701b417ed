import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.descent import trained
from scipy import stats

from tasks.families.vae import MLPVAE, divergence, log_interval, log_normal_cdf, quantised_normal


def test_log_of_the_normal_distribution_and_its_slope():
    x = np.array([-2e5, -300.0, -20, -10.5, -9.5, -3, 0, 2, 30])
    found, slope = jax.jvp(log_normal_cdf, (jnp.float32(x),), (jnp.ones(len(x), jnp.float32),))
    np.testing.assert_allclose(found, stats.norm.logcdf(x), rtol=2e-6, atol=1e-30)
    expected = np.exp(stats.norm.logpdf(x[2:]) - stats.norm.logcdf(x[2:]))
    np.testing.assert_allclose(slope[2:], expected, rtol=2e-4, atol=1e-30)
    np.testing.assert_allclose(slope[:2], -x[:2], rtol=1e-4)


def test_probability_of_an_interval_where_plain_differences_have_no_digits():
    middle = np.array([0.0, 0.5, -3, 8, 0.2, 0.2, 2, 40])
    width = np.array([1e-6, 1e-3, 0.019, 0.021, 0.5, 30, 1e-2, 0.3])
    with jax.enable_x64(True):
        exact = np.asarray(log_interval(jnp.asarray(middle), jnp.asarray(width)))
    found = log_interval(jnp.float32(middle), jnp.float32(width))
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-4)
    low, high = -np.abs(middle) - width / 2, -np.abs(middle) + width / 2
    reference = np.log(stats.norm.cdf(high[:7]) - stats.norm.cdf(low[:7]))
    np.testing.assert_allclose(exact[:7], reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("top", [16, 255])
@pytest.mark.parametrize("mean", [-10.0, 0.0, 0.3, 1.0, 10.0])
def test_levels_have_probabilities_that_sum_to_one(top, mean):
    levels = jnp.arange(top + 1.0)
    for log_stdev in (-10.0, -5.0, -3.0, -1.0, 0.0, 3.0, 10.0):
        outputs = jnp.full_like(levels, mean), jnp.full_like(levels, log_stdev)
        found = np.asarray(quantised_normal(levels, top, *outputs), np.float64)
        assert np.all(np.isfinite(found)) and np.all(found <= 0)
        np.testing.assert_allclose(np.exp(found).sum(), 1, rtol=1e-4)
    edges = np.concatenate([[-np.inf], np.arange(0.5, top), [np.inf]]) / top
    exact = np.diff(stats.norm.cdf(edges, 0.4, 0.2))
    found = quantised_normal(levels, top, jnp.full_like(levels, 0.4), jnp.log(0.2 + 0 * levels))
    np.testing.assert_allclose(np.exp(found), exact, rtol=1e-3, atol=1e-9)


def test_slopes_are_finite_at_the_corners_of_the_clip():
    def total(outputs):
        levels = jnp.arange(256.0)
        return jnp.sum(
            quantised_normal(levels, 255, outputs[0] + 0 * levels, outputs[1] + 0 * levels)
        )

    corners = jnp.array([(m, s) for m in (-10, 0.5, 10) for s in (-10, -4, 0, 10)])
    slopes = jax.jit(jax.vmap(jax.grad(total)))(corners)
    assert np.all(np.isfinite(slopes))


def test_divergence_against_quadrature():
    x = np.linspace(-12, 12, 20001)
    for mean, stdev in ((0.0, 1.0), (0.7, 0.3), (-1.0, 1.5)):
        p = stats.norm.pdf(x, mean, stdev)
        gap = stats.norm.logpdf(x, mean, stdev) - stats.norm.logpdf(x)
        expected = np.sum(p * gap) * (x[1] - x[0])
        found = divergence(jnp.float32(mean), jnp.float32(math.log(stdev)))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    tiny = jnp.linspace(-1e-3, 1e-3, 1001)
    assert np.all(np.asarray(divergence(0 * tiny, tiny)) >= 0)


def test_loss_of_a_decoder_that_ignores_its_latents():
    """With all weights 0 every pixel is N(0, 1) before rounding and the divergence is 0."""
    family = MLPVAE(encoder=(3,), decoder=(), image_size=4)
    task = family.task(family.sample(jax.random.key(0)), jax.tree.map(jnp.asarray, family.load()))
    params = jax.tree.map(jnp.zeros_like, task.init(jax.random.key(1)))
    batch = task.whole("train")
    found = task.loss(params, jax.random.key(2), batch)
    image = np.asarray(batch["image"], np.float64).reshape(-1, 4, 2, 4, 2).mean((2, 4))
    edges = np.concatenate([[-np.inf], np.arange(0.5, 16), [np.inf]]) / 16
    shares = np.diff(stats.norm.cdf(edges))
    expected = -np.log(shares[np.round(image).astype(int)]).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.slow
def test_it_learns_more_than_each_pixel_alone():
    family = MLPVAE(encoder=(48,), decoder=(48,), latent=8, centre=True)
    before, after, _ = trained(family, steps=600)
    image = family.load()["train"]["image"].reshape(-1, 64)
    counts = np.stack([np.bincount(pixel, minlength=17) for pixel in image.T])
    shares = counts / counts.sum(1, keepdims=True)
    entropy = -np.sum(shares * np.log(np.maximum(shares, 1e-12)), 1).mean()
    assert 0 < after < 1.1 * entropy < before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "corpus"}, "dataset: unknown name 'corpus'"),
        ({"image_size": 0}, "image_size: 0 is not allowed"),
        ({"latent": 0}, "latent: 0"),
        ({"encoder": (0,)}, "encoder: 0"),
        ({"decoder": (0,)}, "decoder: 0"),
        ({"activation": "rellu"}, "did you mean relu"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        MLPVAE(**fields)
