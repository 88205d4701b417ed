import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.inner.horizons import Exponential, Fixed, Growing, LogUniform


def draw(horizons, count=20000):
    keys = jax.random.split(jax.random.key(0), count)
    return np.asarray(jax.jit(jax.vmap(lambda key: horizons.sample(key, 0)))(keys))


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
        (Growing, {"low": 5, "high_first": 3, "high_last": 9, "over": 1}, "high_first: 3"),
        (Growing, {"low": 5, "high_first": 9, "high_last": 8, "over": 1}, "high_last: 8"),
        (Growing, {"low": 5, "high_first": 8, "high_last": 9, "over": 0}, "over: 0"),
        (Exponential, {"pieces_min": 0}, "pieces_min: 0"),
        (Exponential, {"steps_mean": -1.0}, "steps_mean: -1.0"),
        (Exponential, {"pieces_mean": float("inf")}, "pieces_mean: inf"),
        (Exponential, {"steps_mean": 1e8}, "steps_mean: .* allows runs of"),
    ],
)
def test_lengths_that_cannot_be_are_refused_by_field(kind, fields, named):
    with pytest.raises(ValueError, match=f"^{named}"):
        kind(**fields)


def test_the_longest_run_grows_geometrically_inside_one_program():
    horizons, traces = Growing(10, 20, 2000, over=100), []

    @jax.jit
    def sample(step):
        traces.append(step)
        keys = jax.random.split(jax.random.key(0), 20000)
        return jax.vmap(lambda key: horizons.sample(key, step))(keys)

    for step, high in [(0, 20), (50, 200), (100, 2000), (10**6, 2000)]:
        steps = np.asarray(sample(jnp.int32(step)))
        assert steps.min() == 10 and high * 0.99 <= steps.max() <= high
        np.testing.assert_allclose(np.median(steps), np.sqrt(10 * high), rtol=0.04)
    assert len(traces) == 1 and horizons.shortest == 10
