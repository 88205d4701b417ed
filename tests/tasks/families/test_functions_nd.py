import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tasks.families.functions_nd import TERRAINS, FunctionND


def by_hand(function, x):
    """The definitions, variable by variable."""
    n = len(x)
    if function == "dixon_price":
        return (x[0] - 1) ** 2 + sum(
            i * (2 * x[i - 1] ** 2 - x[i - 2]) ** 2 for i in range(2, n + 1)
        )
    if function == "levy":
        w = [1 + (v - 1) / 4 for v in x]
        inner = sum((v - 1) ** 2 * (1 + 10 * math.sin(math.pi * v + 1) ** 2) for v in w[:-1])
        last = (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)
        return math.sin(math.pi * w[0]) ** 2 + inner + last
    if function == "rosenbrock_chain":
        return sum(100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i in range(n - 1))
    if function == "styblinski_tang":
        return sum(0.5 * (v**4 - 16 * v**2 + 5 * v) + 40 for v in x)
    tilt = sum(0.5 * i * v for i, v in enumerate(x, start=1))
    return sum(v**2 for v in x) + tilt**2 + tilt**4


@pytest.mark.parametrize("function", TERRAINS)
def test_values_follow_the_definitions(function):
    task = FunctionND(function, dim=7).task((), ())
    for seed in range(5):
        x = np.asarray(task.init(jax.random.key(seed)))
        value = task.loss(jnp.asarray(x), jax.random.key(0), ())
        np.testing.assert_allclose(value, by_hand(function, x.astype(np.float64)), rtol=2e-5)


@pytest.mark.parametrize("function", TERRAINS)
@pytest.mark.parametrize("dim", [2, 20])
def test_the_minimiser_is_flat_and_at_the_bound(function, dim):
    task = FunctionND(function, dim).task((), ())
    best = jnp.asarray(TERRAINS[function].minimiser(dim), jnp.float32)
    value, slope = jax.value_and_grad(task.loss)(best, jax.random.key(0), ())
    assert task.lower_bound <= value <= task.lower_bound + 1e-4 * dim
    np.testing.assert_allclose(slope, 0, atol=2e-3)
    near = best + 0.05 * jax.random.normal(jax.random.key(0), (50, dim))
    assert np.all(jax.vmap(lambda x: task.loss(x, jax.random.key(0), ()))(near) > value)


@pytest.mark.parametrize("function", TERRAINS)
def test_starts_fill_the_box_and_adam_goes_down(function):
    task = FunctionND(function, dim=10).task((), ())
    starts = np.asarray(jax.vmap(task.init)(jax.random.split(jax.random.key(0), 200)))
    low, high = TERRAINS[function].bounds
    assert low <= starts.min() < low + 0.1 and high - 0.1 < starts.max() <= high
    optimizer = optax.adam(0.1)

    @jax.jit
    def descend(x):
        def step(carry, _):
            x, state = carry
            updates, state = optimizer.update(jax.grad(task.loss)(x, jax.random.key(0), ()), state)
            return (optax.apply_updates(x, updates), state), None

        return jax.lax.scan(step, (x, optimizer.init(x)), length=300)[0][0]

    key, start = jax.random.key(0), jnp.asarray(starts[0])
    before, after = task.loss(start, key, ()), task.loss(descend(start), key, ())
    bound = TERRAINS[function].floor * 10
    assert after - bound < 0.7 * (before - bound)


def test_names_follow_the_function_and_bad_fields_are_named():
    assert FunctionND("levy", 30).name == "levy_30" and FunctionND("levy", 30).loss == "levy"
    with pytest.raises(ValueError, match="function: unknown name 'levi'; did you mean levy"):
        FunctionND("levi")
    with pytest.raises(ValueError, match="dim: 1 is not allowed; it must be at least 2"):
        FunctionND(dim=1)
