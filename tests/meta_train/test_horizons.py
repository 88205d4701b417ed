import jax
import numpy as np
import pytest

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


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        (Fixed, {"steps": 0}, "steps: 0"),
        (Fixed, {"steps": 2**31}, "steps: 2147483648 "),
        (LogUniform, {"low": 0, "high": 3}, "low: 0"),
        (LogUniform, {"low": 5, "high": 3}, "high: 3 must be between low, 5"),
        (LogUniform, {"low": 5, "high": 2**40}, "high: "),
        (Exponential, {"pieces_min": 0}, "pieces_min: 0"),
        (Exponential, {"steps_mean": -1.0}, "steps_mean: -1.0"),
        (Exponential, {"pieces_mean": float("inf")}, "pieces_mean: inf"),
        (Exponential, {"steps_mean": 1e8}, "steps_mean: .* allows runs of"),
    ],
)
def test_lengths_that_cannot_be_are_refused_by_field(kind, fields, named):
    with pytest.raises(ValueError, match=f"^{named}"):
        kind(**fields)
