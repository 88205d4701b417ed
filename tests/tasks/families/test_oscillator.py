import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.descent import trained

from tasks.families.oscillator import OscillatorNetwork, solution


def test_the_solution_starts_at_rest_and_moves_as_it_should():
    w, d, h = 7.0, 0.2, 1e-4
    t = np.linspace(0.0, 1.0, 11)

    def u(t):  # of the roots of the characteristic polynomial
        root = -d * w + 1j * w * np.sqrt(1 - d * d)
        share = np.array([-root.conjugate(), root]) / (root - root.conjugate())
        return (share[0] * np.exp(root * t) + share[1] * np.exp(root.conjugate() * t)).real

    found = solution(jnp.float32(w), jnp.float32(d), jnp.array(t, jnp.float32))
    np.testing.assert_allclose(found, u(t), atol=1e-5)
    speed, force = (u(t + h) - u(t - h)) / (2 * h), (u(t + h) - 2 * u(t) + u(t - h)) / h**2
    assert u(t)[0] == pytest.approx(1) and speed[0] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(force + 2 * d * w * speed + w**2 * u(t), 0, atol=1e-4)


def test_the_networks_loss_against_differences():
    family = OscillatorNetwork(widths=(6,), seed=1)
    cfg = family.sample(jax.random.key(0))
    task = family.task(cfg, ())
    params = task.init(jax.random.key(1))
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    w, d = float(cfg["frequency"]), float(cfg["damping"])
    assert 4 <= w <= 12 and 0.02 <= d <= 0.3
    t, h = np.linspace(0.05, 0.95, 7), 1e-4

    def u(t):
        layer0, layer1 = weights["layer0"], weights["layer1"]
        inner = np.tanh((2 * t[:, None] - 1) @ layer0["weight"] + layer0["bias"])
        return (inner @ layer1["weight"] + layer1["bias"])[:, 0]

    def speed(t):
        return (u(t + h) - u(t - h)) / (2 * h)

    force = (u(t + h) - 2 * u(t) + u(t - h)) / h**2
    motion = np.mean((force / w**2 + 2 * d / w * speed(t) + u(t)) ** 2)
    begin = (u(np.zeros(1))[0] - 1) ** 2 + (speed(np.zeros(1))[0] / w) ** 2
    loss = task.loss(params, jax.random.key(0), jnp.array(t))
    np.testing.assert_allclose(loss, motion + begin, rtol=1e-3)


def test_doing_nothing_costs_one():
    family = OscillatorNetwork()
    task = family.task(family.sample(jax.random.key(0)), ())
    zero = jax.tree.map(jnp.zeros_like, task.init(jax.random.key(0)))
    assert task.loss(zero, jax.random.key(0), task.whole("train")) == 1


@pytest.mark.slow
def test_training_finds_the_solution():
    family = OscillatorNetwork(seed=3)
    cfg = family.sample(jax.random.key(0))
    _, last, params = trained(family, steps=3000)
    assert last < 0.01
    t = jnp.linspace(0, 1, 50)
    truth = solution(cfg["frequency"], cfg["damping"], t)
    assert jnp.max(jnp.abs(family.value(params, t) - truth)) < 0.2


def test_bad_fields_are_named():
    with pytest.raises(ValueError, match="damping: .* must be below 1"):
        OscillatorNetwork(damping=(0.5, 1.0))
    with pytest.raises(ValueError, match="widths: 0 is not allowed"):
        OscillatorNetwork(widths=())
