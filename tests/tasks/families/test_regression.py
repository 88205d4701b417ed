import jax
import jax.numpy as jnp
import numpy as np

from tasks.families.regression import log_cosh, mse


def test_log_cosh_against_its_definition():
    difference = np.array([-5.0, -1.01, -0.99, -1e-4, 0.0, 1e-7, 0.3, 2.0])
    each = jax.vmap(lambda d: log_cosh(d[None], jnp.zeros(1)))
    loss, slope = each(jnp.array(difference)), jax.vmap(jax.grad(lambda d: each(d[None])[0]))
    np.testing.assert_allclose(loss, np.log(np.cosh(difference)), rtol=1e-5, atol=1e-14)
    assert np.all(np.asarray(loss) >= 0)
    np.testing.assert_allclose(slope(jnp.array(difference)), np.tanh(difference), rtol=1e-5)
    assert np.isfinite(each(jnp.array([1e30]))).all()


def test_mse_is_the_mean_of_squares():
    np.testing.assert_allclose(mse(jnp.array([1.0, 4.0]), jnp.array([0.0, 1.0])), 5.0)
