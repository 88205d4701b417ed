import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.descent import trained

from tasks.families.badly_scaled import BadlyScaledRegression


def test_units_spread_over_the_decades():
    family = BadlyScaledRegression(features=200, decades=6.0)
    x = np.asarray(family.sample(jax.random.key(0))["train"]["x"])
    powers = np.log10(x.std(0))
    assert powers.min() > -3.1 and powers.max() < 3.1 and np.ptp(powers) > 5.5
    even = BadlyScaledRegression(decades=0.0).sample(jax.random.key(0))["train"]["x"]
    np.testing.assert_allclose(np.std(even, axis=0), 1, atol=0.1)


def test_targets_do_not_follow_the_units():
    rough = BadlyScaledRegression(seed=4).sample(jax.random.key(0))
    even = BadlyScaledRegression(decades=0.0, seed=4).sample(jax.random.key(0))
    for split in ("train", "test"):
        np.testing.assert_array_equal(rough[split]["y"], even[split]["y"])
    assert len(rough["train"]["y"]) == 512 and len(rough["test"]["y"]) == 256
    found = [
        np.var(BadlyScaledRegression(seed=seed).sample(jax.random.key(0))["train"]["y"])
        for seed in range(12)
    ]
    assert 0.5 < np.median(found) < 2


def test_the_loss_is_that_of_the_network_on_raw_inputs():
    family = BadlyScaledRegression(features=2, widths=())
    task = family.task(family.sample(jax.random.key(0)), ())
    params = {"layer0": {"weight": jnp.array([[2.0], [0.0]]), "bias": jnp.array([1.0])}}
    batch = {"x": jnp.array([[100.0, 3.0], [0.5, 0.0]]), "y": jnp.array([201.0, 0.0])}
    assert task.loss(params, jax.random.key(0), batch) == pytest.approx(2.0)


@pytest.mark.slow
def test_scales_make_it_hard():
    rough, even = (BadlyScaledRegression(decades=d, seed=1) for d in (4.0, 0.0))
    assert trained(even, 500, 1e-2)[1] < 0.5 * trained(rough, 500, 1e-2)[1]


def test_bad_fields_are_named():
    with pytest.raises(ValueError, match="decades: -1 is not allowed"):
        BadlyScaledRegression(decades=-1)
    with pytest.raises(ValueError, match="did you mean mse"):
        BadlyScaledRegression(loss="mes")
