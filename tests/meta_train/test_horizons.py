import jax
import numpy as np

from meta_train.horizons import Exponential, Fixed, LogUniform


def draw(horizons, count=20000):
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.jit(jax.vmap(horizons.sample))(keys))


def test_the_papers_lengths_have_their_quantiles():
    steps = draw(Exponential())
    assert steps.min() >= Exponential().shortest == 50
    np.testing.assert_allclose(steps.mean(), 10200, rtol=0.03)
    np.testing.assert_allclose(np.median(steps), 7100, rtol=0.05)
    np.testing.assert_allclose(np.quantile(steps, 0.05), 700, rtol=0.15)
    np.testing.assert_allclose(np.quantile(steps, 0.95), 30000, rtol=0.05)
    np.testing.assert_allclose(np.quantile(steps, 0.99), 47000, rtol=0.08)


def test_log_uniform_has_the_geometric_mean_as_median_and_keeps_its_ends():
    steps = draw(LogUniform(100, 2000))
    assert steps.min() == 100 and 1998 <= steps.max() <= 2000
    np.testing.assert_allclose(np.median(steps), np.sqrt(100 * 2000), rtol=0.04)


def test_fixed():
    assert (draw(Fixed(7), 3) == 7).all()
