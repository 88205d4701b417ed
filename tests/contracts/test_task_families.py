"""What holds for every task family: those in the registry, all functions, all suites."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from tasks import FAMILIES, SPLITS, SUITES
from tasks.families.functions_nd import TERRAINS, FunctionND
from tasks.families.synthetic import FUNCTIONS, Function2D, Quadratic
from tasks.suites import HELD_OUT

REGISTERED = [kind() for kind in FAMILIES.values()]
EVERY = [
    *{
        family: None
        for family in (
            *REGISTERED,
            *map(Function2D, FUNCTIONS),
            *map(FunctionND, TERRAINS),
            Function2D("booth", noise=1.0),
            Quadratic(noise=0.5, name="quadratic_noisy"),
            *(family for suite in SUITES.values() for family in suite.families),
        )
    }
]


def each(families):
    return pytest.mark.parametrize("family", families, ids=lambda family: family.name)


def one_run(family, data, key):
    """Everything an unroll asks of a task: start, losses, gradients and what distorts them."""
    cfg_key, init_key, batch_key, loss_key, gradient_key = jax.random.split(key, 5)
    task = family.task(family.sample(cfg_key), data)
    params = task.init(init_key)
    batch = task.batch(batch_key, "train")
    loss, grads = jax.value_and_grad(task.loss)(params, loss_key, batch)
    whole = task.loss(params, loss_key, task.whole("inner_valid"))
    gradient = optax.with_extra_args_support(task.gradient)
    seen, _ = gradient.update(grads, gradient.init(params), params, key=gradient_key)
    bound = -jnp.inf if task.lower_bound is None else task.lower_bound
    return params, loss, whole, grads, seen, jnp.float32(bound)


@each(EVERY)
def test_tasks_vmap_and_are_finite_and_bounded(family):
    keys = jax.random.split(jax.random.key(0), 3)
    run = jax.jit(jax.vmap(lambda data, key: one_run(family, data, key), in_axes=(None, 0)))
    params, loss, whole, grads, seen, bound = run(family.load(), keys)
    assert loss.dtype == jnp.float32 and loss.shape == (3,)
    assert jax.tree.structure(params) == jax.tree.structure(grads) == jax.tree.structure(seen)
    for leaf in map(np.asarray, jax.tree.leaves((params, grads, seen, whole))):
        assert leaf.dtype == np.float32 and np.all(np.isfinite(leaf))
    assert np.all(np.asarray(loss) >= bound) and np.all(np.asarray(whole) >= bound)
    assert len(set(np.asarray(loss).tolist())) == 3


@each(REGISTERED)
def test_gradients_agree_with_finite_differences(family):
    """A central difference along a random direction, in double precision."""
    data = family.load()
    keys = jax.random.split(jax.random.key(1), 5)

    def single(data, keys):
        task = family.task(family.sample(keys[0]), data)
        return task.init(keys[1]), task.batch(keys[2], "train")

    params, batch = jax.jit(single)(data, keys)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: x.astype(jnp.float64), params)
        flat, unflatten = ravel_pytree(params)
        rng = np.random.default_rng(0)
        flat += 0.1 * rng.normal(size=flat.shape)  # biases of 0 put relu on its kink
        direction = rng.normal(size=flat.shape)

        @jax.jit
        def slope(data, step):
            task = family.task(family.sample(keys[0]), data)

            def along(step):
                return task.loss(unflatten(flat + step * direction), keys[4], batch)

            return jax.jvp(along, (step,), (jnp.ones_like(step),))

        step = jnp.float64(1e-7)
        above, _ = slope(data, step)
        below, _ = slope(data, -step)
        _, exact = slope(data, jnp.zeros_like(step))
        assert exact.dtype == jnp.float64
        np.testing.assert_allclose((above - below) / (2 * step), exact, rtol=1e-5, atol=1e-7)


@each(EVERY)
def test_programs_hold_no_data_and_no_randomness_of_their_own(family):
    data, key = family.load(), jax.random.key(0)
    program, again = (
        jax.make_jaxpr(lambda data, key: one_run(family, data, key))(data, key) for _ in range(2)
    )
    assert sum(np.asarray(const).nbytes for const in program.consts) < 1000
    assert len(str(program)) < 100_000
    assert str(program) == str(again)  # randomness comes from keys alone


@each([family for family in EVERY if hasattr(family, "dataset")])
def test_batches_hold_rows_of_their_own_split_only(family):
    """Every array of a split is filled with the split's number, which must come back."""
    marked = {
        split: jax.tree.map(lambda values, mark=mark: np.full_like(values, mark), part)
        for mark, (split, part) in enumerate(family.load().items())
    }

    @jax.jit
    def draw(data, key):
        task = family.task(family.sample(key), data)
        return [(task.batch(key, split), task.whole(split)) for split in SPLITS]

    for mark, batches in enumerate(draw(marked, jax.random.key(0))):
        assert all(np.all(np.asarray(leaf) == mark) for leaf in jax.tree.leaves(batches))


@each(EVERY)
def test_families_are_frozen_hashable_and_named(family):
    assert hash(family) == hash(dataclasses.replace(family))
    assert re.fullmatch(r"[A-Za-z0-9_-]+", family.name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        family.name = "other"


@each([*dict.fromkeys(family for name in HELD_OUT for family in SUITES[name].families)])
def test_held_out_tasks_are_the_same_for_every_seed(family):
    first, second = (family.sample(jax.random.key(seed)) for seed in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, second)
