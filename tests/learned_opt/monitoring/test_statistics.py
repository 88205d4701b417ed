"""Statistics of a tensor against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from learned_opt.monitoring.statistics import EDGES, QUANTILES, Statistics, statistics


def reference(x):
    """The same in float64, moment by moment."""
    x = np.asarray(x, np.float64).ravel()
    finite = np.isfinite(x)
    x = np.where(finite, x, 0.0)
    logs = np.log10(np.abs(np.where(x == 0, 1.0, x))).clip(EDGES[0], EDGES[-1])
    rms = np.sqrt(np.mean(x**2))
    ordered = np.sort(np.abs(x))[::-1]
    top = max(1, round(0.01 * x.size))
    return Statistics(
        negative=np.histogram(logs[x < 0], EDGES)[0],
        positive=np.histogram(logs[x > 0], EDGES)[0],
        zeros=np.mean(x == 0),
        not_finite=1 - np.mean(finite),
        rms=rms,
        peak=np.abs(x).max() / rms,
        mean=x.mean(),
        skewness=stats.skew(x),
        kurtosis=stats.kurtosis(x),
        hill=np.mean(np.log(ordered[:top] / ordered[top])),
        small=np.mean(np.abs(x) < 1e-3 * rms),
        quantiles=np.quantile(x, QUANTILES),
    )


@pytest.fixture(scope="module")
def compiled():
    return jax.jit(statistics)


@pytest.fixture(scope="module")
def padded():
    return jax.jit(statistics)


def samples(rng, kind):
    normal = rng.normal(size=(40, 50))
    return {
        "normal": normal,
        "heavy": rng.standard_t(2, size=(40, 50)) * 1e-4,
        "tiny": np.exp(4 * normal) * np.sign(rng.normal(size=(40, 50))) * 1e-17,
        "huge": normal * 1e25,
        "sparse": np.where(rng.uniform(size=(40, 50)) < 0.4, 0.0, normal + 3.0),
        "broken": np.where(normal > 2.0, np.nan, np.where(normal < -2.5, -np.inf, normal)),
    }[kind].astype(np.float32)


@pytest.mark.parametrize("kind", ["normal", "heavy", "tiny", "huge", "sparse", "broken"])
def test_all_agree_with_float64(rng, compiled, kind):
    x = samples(rng, kind)
    with np.errstate(divide="ignore"):
        expected = reference(x)
    seen = compiled(x)
    for name in Statistics._fields:
        scale = expected.rms if name in ("mean", "quantiles") else 1.0
        np.testing.assert_allclose(
            getattr(seen, name), getattr(expected, name), rtol=2e-4, atol=2e-6 * scale, err_msg=name
        )
    entries = seen.negative.sum() + seen.positive.sum() + round(float(seen.zeros) * x.size)
    assert entries == x.size


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_ends_of_the_histogram_take_what_lies_beyond(compiled):
    few = np.array([1e-20, -1e-13, 1e-12, 1.1e-12, 9e3, 1e4, 1e30, -1e5], np.float32)
    seen = compiled(np.pad(few, (0, 1992)).reshape(40, 50))
    assert seen.positive[0] == 3 and seen.positive[-1] == 3 and seen.positive.sum() == 6
    assert seen.negative[0] == 1 and seen.negative[-1] == 1 and seen.negative.sum() == 2


def test_the_tail_index_of_a_pareto_distribution_is_the_inverse_exponent(compiled):
    levels = (np.arange(2000) + 0.5) / 2000
    x = (levels ** (-1 / 2.5)).astype(np.float32)
    np.testing.assert_allclose(compiled(x.reshape(40, 50)).hill, 1 / 2.5, rtol=0.03)


@pytest.mark.parametrize("value", [0.0, 0.3, -7e20, np.nan])
@pytest.mark.parametrize("shape", [(), (40, 50)])
def test_where_all_entries_are_equal_everything_is_finite(compiled, value, shape):
    seen = compiled(np.full(shape, value, np.float32))
    assert all(np.isfinite(part).all() for part in seen)
    assert seen.skewness == seen.kurtosis == seen.hill == 0
    np.testing.assert_allclose(seen.rms, abs(np.nan_to_num(value)), rtol=1e-6)


@pytest.mark.parametrize("size", [2, 3, 777])
def test_padding_changes_nothing(rng, padded, size):
    """Whatever it holds."""
    x = rng.normal(2.0, size=1000).astype(np.float32)
    x[size:] = np.where(np.arange(1000 - size) % 2, 1e6, np.nan)
    seen = padded(x, size)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = reference(x[:size])
    for name in Statistics._fields:
        np.testing.assert_allclose(
            getattr(seen, name), getattr(expected, name), rtol=1e-4, atol=1e-5, err_msg=name
        )


def test_a_large_tensor_is_sampled_in_all_of_its_columns():
    """The quantiles of a matrix whose columns differ; a power of two would meet few of them."""
    columns = np.linspace(-1, 1, 512, dtype=np.float32)
    x = jnp.asarray(np.tile(columns, (128, 1)))
    seen = jax.jit(statistics)(x)
    np.testing.assert_allclose(seen.quantiles, np.quantile(x, QUANTILES), atol=5e-3)
    assert seen.negative.sum() + seen.positive.sum() == x.size
