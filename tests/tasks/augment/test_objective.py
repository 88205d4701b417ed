"""Other coordinates, scales and arithmetic against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.bowls import Bowl, on, plain, seen
from helpers.toys import Descent

from meta_train.inner.horizons import Fixed
from meta_train.inner.unroll import Episodes, start, unroll
from tasks.augment.base import Augmented
from tasks.augment.objective import LEVELS, Bfloat16, LogObjective, LossScale, Reparametrise
from tasks.base import Task
from tasks.registry import FAMILIES

KEY = jax.random.key(0)


@pytest.mark.parametrize("level", LEVELS)
def test_a_reparametrised_task_is_the_same_function_of_other_numbers(level):
    task = plain()
    other, _ = on(Reparametrise(level=level), task, seed=4)
    params, batch = task.init(KEY), task.batch(KEY, "train")
    moved = other.init(KEY)
    scales = jax.tree.map(jnp.divide, params, moved)
    value, grads = jax.value_and_grad(task.loss)(params, KEY, batch)
    new, found = jax.value_and_grad(other.loss)(moved, KEY, batch)
    np.testing.assert_allclose(new, value, rtol=1e-5)
    jax.tree.map(
        lambda s, g, f: np.testing.assert_allclose(f, s * g, rtol=1e-4), scales, grads, found
    )
    rounded = [np.unique(np.round(np.log(np.asarray(s)), 3)) for s in jax.tree.leaves(scales)]
    numbers = [len(values) for values in rounded]
    assert numbers == ([3, 4] if level == "parameter" else [1, 1])
    assert (rounded[0][0] == rounded[1][0]) == (level == "global")


def test_scales_are_log_uniform_in_their_range():
    task, many = plain(), jax.random.split(KEY, 2000)

    def drawn(key):
        augmentation = Reparametrise(range=(0.1, 1000.0))
        other = augmentation.wrap(task, augmentation.sample(key), jnp.asarray(True))
        return task.init(KEY)["a"][0] / other.init(KEY)["a"][0]

    logs = np.log10(np.asarray(jax.vmap(drawn)(many)))
    counts, _ = np.histogram(logs, bins=4, range=(-1, 3))
    assert counts.sum() == 2000 and np.abs(counts - 500).max() < 100


@pytest.mark.parametrize("stdev", [0.0, 0.3])
def test_a_run_in_other_units_is_a_run_at_another_rate(stdev):
    """With x = s w, the step w -= rate dL/dw is x -= rate s^2 dL/dx; noise is in the units of x."""
    rate, scale, data = 0.02, 3.0, Bowl().load()
    losses = []
    for family, theta in [
        (Augmented(Bowl(stdev), (Reparametrise(range=(scale, scale)),)), rate),
        (Bowl(stdev), rate * scale**2),
    ]:
        episodes = Episodes(family, Descent(), Fixed(12))
        theta = {"rate": jnp.float32(theta)}
        inner = start(episodes, data, theta, KEY, 0)
        losses.append(unroll(episodes, data, theta, inner, jax.random.key(1), 0, 10)[1].loss)
    assert losses[0][-1] < 0.7 * losses[0][0]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_a_scaled_loss_scales_its_bound_its_slope_and_its_noise():
    task = plain(Bowl(floor=2.0))
    scaled, scale = on(LossScale(), task)
    params, batch = task.init(KEY), task.batch(KEY, "train")
    value, grads = jax.value_and_grad(task.loss)(params, KEY, batch)
    new, found = jax.value_and_grad(scaled.loss)(params, KEY, batch)
    (noisy,), (new_noisy,) = seen(task, [grads], params), seen(scaled, [found], params)
    np.testing.assert_allclose(new, scale * value, rtol=1e-6)
    np.testing.assert_allclose(scaled.lower_bound, 2.0 * scale, rtol=1e-6)
    for old, other in [(grads, found), (noisy, new_noisy)]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(b, scale * a, rtol=1e-4), old, other)
    assert on(LossScale(), plain(Bowl(bounded=False)))[0].lower_bound is None


def test_the_log_objective_in_closed_form():
    task = plain(Bowl(stdev=0.0, floor=2.0))
    log, _ = on(LogObjective(), task)
    params, batch = task.init(KEY), task.batch(KEY, "train")
    value, grads = jax.value_and_grad(task.loss)(params, KEY, batch)
    new, found = jax.value_and_grad(log.loss)(params, KEY, batch)
    np.testing.assert_allclose(new, np.log(value - 2 + 1e-6) - np.log(1e-6), rtol=1e-5)
    jax.tree.map(
        lambda g, f: np.testing.assert_allclose(f, g / (value - 2), rtol=1e-4), grads, found
    )
    cone = Task(lambda key: 1.0, task.batch, task.whole, lambda p, key, b: p**2, 0.0)
    least, slope = jax.value_and_grad(on(LogObjective(), cone)[0].loss)(0.0, KEY, ())
    assert log.lower_bound == least == slope == 0


def test_bfloat16_rounds_parameters_and_batches():
    task = plain()
    low, _ = on(Bfloat16(), task)
    params, batch = task.init(KEY), task.batch(KEY, "train")
    value, grads = jax.value_and_grad(low.loss)(params, KEY, batch)
    rounded = lambda x: np.asarray(x.astype(jnp.bfloat16)).astype(np.float64)
    target = rounded(Bowl().sample(KEY)["target"])
    away = rounded(params["a"]) - target - rounded(batch["row"])
    wanted = 0.5 * np.mean(np.sum(away**2, -1)) + 0.5 * np.sum(rounded(params["b"]) ** 2)
    np.testing.assert_allclose(value, wanted, rtol=0.03)
    assert value.dtype == jnp.float32 and value == value.astype(jnp.bfloat16)
    np.testing.assert_allclose(grads["b"], params["b"], rtol=0.01)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(grads))


def test_bfloat16_never_falls_below_the_bound():
    def loss(params, key, batch):
        del key, batch
        return params + jnp.asarray(1.001, params.dtype)

    shallow = Task(lambda key: jnp.float32(0), lambda k, s: (), lambda s: (), loss, 1.001)
    low, _ = on(Bfloat16(), shallow)
    value, slope = jax.value_and_grad(low.loss)(jnp.float32(0.0), KEY, ())
    assert loss(jnp.bfloat16(0.0), KEY, ()) == 1.0
    assert value == jnp.float32(1.001) and slope == 1.0


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_every_family_has_a_loss_in_bfloat16(kind):
    family = Augmented(FAMILIES[kind](), (Bfloat16(), Reparametrise(level="parameter")))

    def step(data, key):
        task = family.task(family.sample(key), data)
        params = task.init(key)
        loss, grads = jax.value_and_grad(task.loss)(params, key, task.batch(key, "train"))
        return loss, optax.tree_utils.tree_sub(grads, params)

    loss, grads = jax.eval_shape(step, family.load(), KEY)
    assert loss.dtype == jnp.float32 and loss.shape == ()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(grads))
