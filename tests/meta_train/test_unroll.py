import jax
import jax.numpy as jnp
import numpy as np
from toys import Descent, NoisyLine, parabola

from meta_train.horizons import Fixed
from meta_train.unroll import Episodes, start, unroll

THETA = {"rate": jnp.float32(0.1)}


def test_losses_are_those_of_gradient_descent():
    episodes = parabola(Fixed(6))
    inner = start(episodes, (), THETA, jax.random.key(0), 0)
    inner, seen = unroll(episodes, (), THETA, inner, jax.random.key(1), 0, 6)
    np.testing.assert_allclose(seen.loss, 2.0 * 0.9 ** (2 * np.arange(6)), rtol=1e-5)
    np.testing.assert_array_equal(seen.step, np.arange(6))
    np.testing.assert_allclose(inner.params["x"], 2.0 * 0.9**6, rtol=1e-5)
    assert not seen.fresh.any()


def test_a_finished_run_is_replaced_in_place():
    episodes = parabola(Fixed(4))
    inner = start(episodes, (), THETA, jax.random.key(0), 0)
    inner, first = unroll(episodes, (), THETA, inner, jax.random.key(1), 0, 3)
    inner, second = unroll(episodes, (), THETA, inner, jax.random.key(2), 0, 3)
    np.testing.assert_array_equal(np.concatenate([first.step, second.step]), [0, 1, 2, 3, 0, 1])
    np.testing.assert_array_equal(second.fresh, [False, True, True])
    np.testing.assert_allclose(second.loss[1:], first.loss[:2], rtol=1e-6)


def test_one_key_means_one_stream_whatever_theta_is():
    episodes = Episodes(NoisyLine(), Descent(), Fixed(9))
    data = NoisyLine().load()
    losses = []
    for rate in (0.0, 0.0, 0.3):
        theta = {"rate": jnp.float32(rate)}
        inner = start(episodes, data, theta, jax.random.key(0), 0)
        losses.append(unroll(episodes, data, theta, inner, jax.random.key(1), 0, 5)[1].loss)
    np.testing.assert_array_equal(losses[0], losses[1])
    assert losses[2][0] == losses[0][0] and (losses[2][1:] != losses[0][1:]).all()


def test_the_measured_split_is_taken_whole():
    episodes = Episodes(NoisyLine(), Descent(), Fixed(9), measure="outer_valid")
    data = NoisyLine().load()
    theta = {"rate": jnp.float32(0.0)}
    inner = start(episodes, data, theta, jax.random.key(0), 0)
    _, seen = unroll(episodes, data, theta, inner, jax.random.key(1), 0, 4)
    rows = np.asarray(data["rows"]) + float(inner.cfg["shift"])
    whole = 0.5 * np.mean((float(inner.params["x"]) - rows) ** 2)
    np.testing.assert_allclose(seen.loss, whole, rtol=1e-5)
    np.testing.assert_allclose(inner.initial_loss, whole, rtol=1e-5)


def test_data_is_an_argument_not_a_constant():
    episodes = Episodes(NoisyLine(), Descent(), Fixed(9))
    data = {"rows": jnp.linspace(-1.0, 1.0, 50_000)}

    def run(data):
        inner = start(episodes, data, THETA, jax.random.key(0), 0)
        return unroll(episodes, data, THETA, inner, jax.random.key(1), 0, 3)[1].loss

    assert len(jax.jit(run).lower(data).as_text()) < 200_000
