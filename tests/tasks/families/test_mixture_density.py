import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.descent import trained
from scipy import stats

from tasks.families.mixture_density import MixtureDensityNetwork


def test_the_density_is_the_mixture_the_network_describes():
    family = MixtureDensityNetwork(components=3, widths=(), least_width=0.02)
    task = family.task(family.sample(jax.random.key(0)), ())
    params = task.init(jax.random.key(1))
    x, y = np.array([0.1, 0.7]), np.array([0.3, -0.4])
    layer = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["layer0"])
    output = (2 * x[:, None] - 1) @ layer["weight"] + layer["bias"]
    weight, mean, raw = output[:, :3], output[:, 3:6], output[:, 6:]
    share = np.exp(weight) / np.exp(weight).sum(1, keepdims=True)
    density = (share * stats.norm.pdf(y[:, None], mean, np.exp(raw) + 0.02)).sum(1)
    found = family.log_density(params, jnp.array(x), jnp.array(y))
    np.testing.assert_allclose(found, np.log(density), rtol=1e-5)
    batch = {"x": jnp.array(x), "y": jnp.array(y)}
    loss = task.loss(params, jax.random.key(0), batch)
    np.testing.assert_allclose(loss, -np.log(density).mean(), rtol=1e-5)


def test_points_lie_on_the_wave():
    cfg = MixtureDensityNetwork(noise=0.0, examples=400).sample(jax.random.key(2))
    x, y = (np.asarray(cfg["train"][name], np.float64) for name in "xy")
    assert x.shape == y.shape == (400,) and len(cfg["test"]["x"]) == 256
    bends = (x - y) / np.sin(2 * np.pi * y)
    clear = np.abs(np.sin(2 * np.pi * y)) > 0.1
    np.testing.assert_allclose(bends[clear], np.median(bends), rtol=1e-3)
    assert 0.2 < np.median(bends) < 0.4
    noisy = MixtureDensityNetwork(noise=0.05, examples=400).sample(jax.random.key(2))
    off = np.asarray(noisy["train"]["x"]) - x
    assert off.std() == pytest.approx(0.05, rel=0.1)


def test_a_peak_on_every_point_is_the_bound_and_stays_finite():
    family = MixtureDensityNetwork(components=1, widths=())
    task = family.task(family.sample(jax.random.key(0)), ())
    for raw in (-1e4, -200.0, 200.0):
        bias = jnp.array([0.0, 0.5, raw])
        params = {"layer0": {"weight": jnp.zeros((1, 3)), "bias": bias}}
        batch = {"x": jnp.zeros(4), "y": jnp.full(4, 0.5)}
        loss, grads = jax.value_and_grad(task.loss)(params, jax.random.key(0), batch)
        assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves((loss, grads)))
        assert loss >= task.lower_bound
    narrow = task.loss(
        {"layer0": {"weight": jnp.zeros((1, 3)), "bias": jnp.array([0.0, 0.5, -1e4])}},
        jax.random.key(0),
        batch,
    )
    assert narrow == pytest.approx(task.lower_bound, abs=1e-3)


@pytest.mark.slow
def test_training_beats_the_best_single_normal():
    family = MixtureDensityNetwork(seed=1)
    y = np.asarray(family.sample(jax.random.key(0))["train"]["y"])
    single = 0.5 * np.log(2 * np.pi * np.e * y.var())
    _, last, _ = trained(family, steps=2000, rate=3e-3)
    assert last < single - 0.5


def test_bad_fields_are_named():
    with pytest.raises(ValueError, match="least_width: 0 is not allowed; it must be above 0"):
        MixtureDensityNetwork(least_width=0)
    with pytest.raises(ValueError, match="components: 0 is not allowed"):
        MixtureDensityNetwork(components=0)
