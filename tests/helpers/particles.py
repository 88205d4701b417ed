"""Many particles of an estimator at once, under the axes that the learner puts around it."""

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.parallel import AXIS, TASKS


def estimate(estimator, theta, data, states, keys, step=0):
    """`estimator.estimate` over states and keys with leading axes shard, task."""
    axes = (None, None, 0, 0, None)
    tasks = jax.vmap(estimator.estimate, axes, axis_name=TASKS)
    return jax.vmap(tasks, axes, axis_name=AXIS)(theta, data, states, keys, step)


def begin(estimator, theta, data, keys, horizon=None):
    """Initial states for keys [shard, task]; horizon: of the first run, instead of a cut one."""
    init = lambda key: estimator.init(theta, data, key, 0)
    states = jax.vmap(jax.vmap(init))(keys)
    if horizon is None:
        return states
    is_inner = lambda x: hasattr(x, "horizon")
    uncut = lambda x: x._replace(horizon=jnp.full_like(x.horizon, horizon)) if is_inner(x) else x
    return jax.tree.map(uncut, states, is_leaf=is_inner)


def slopes(estimator, theta, windows, draws, horizon, seed=1):
    """The estimates of consecutive windows of many particles, theta fixed: [window, particle]."""
    keys = jax.random.split(jax.random.key(seed), (1, draws))

    @jax.jit
    def run(keys):
        def window(states, i):
            these = jax.vmap(jax.vmap(lambda key: jax.random.fold_in(key, i)))(keys)
            gradient, states, _ = estimate(estimator, theta, (), states, these)
            return states, jnp.concatenate([x[0].reshape(draws, -1) for x in gradient.values()], 1)

        states = begin(estimator, theta, (), keys, horizon)
        return jax.lax.scan(window, states, jnp.arange(windows))[1]

    return np.asarray(run(keys))[..., 0]


def mean_and_error(samples):
    """Over particles, of the sum over windows."""
    total = samples.sum(0, dtype=np.float64)
    return total.mean(), total.std() / np.sqrt(len(total))
