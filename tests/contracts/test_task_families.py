"""What holds for every task family: those in the registry, all functions, all suites."""

import dataclasses
import functools
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
KINDS = dict.fromkeys(
    (
        *REGISTERED,
        *map(Function2D, FUNCTIONS),
        *map(FunctionND, TERRAINS),
        Function2D("booth", noise=1.0),
        Quadratic(noise=0.5, name="quadratic_noisy"),
    )
)
EVERY = KINDS | dict.fromkeys(family for suite in SUITES.values() for family in suite.families)


def each(families):
    return pytest.mark.parametrize("family", families, ids=lambda family: family.name)


def each_compiled(families):
    """As `each`; what is no registered kind by itself, but one with other numbers, is slow."""
    marks = {family: () if family in REGISTERED else pytest.mark.slow for family in families}
    return each([pytest.param(family, marks=mark) for family, mark in marks.items()])


TASKS = 3


def begin(family, data, key):
    cfg_key, init_key, batch_key, loss_key, gradient_key = jax.random.split(key, 5)
    cfg = family.sample(cfg_key)
    task = family.task(cfg, data)
    begun = {"cfg": cfg, "params": task.init(init_key), "batch": task.batch(batch_key, "train")}
    bound = jnp.float32(-jnp.inf if task.lower_bound is None else task.lower_bound)
    return task, begun | {"bound": bound}, loss_key, gradient_key


def start(family, data, key):
    task, begun, loss_key, _ = begin(family, data, key)
    return begun | {"loss": task.loss(begun["params"], loss_key, begun["batch"])}


def one_run(family, data, key):
    """Everything an unroll asks of a task: start, losses, gradients and what distorts them."""
    task, begun, loss_key, gradient_key = begin(family, data, key)
    params = begun["params"]
    loss, grads = jax.value_and_grad(task.loss)(params, loss_key, begun["batch"])
    whole = task.loss(params, loss_key, task.whole("inner_valid"))
    gradient = optax.with_extra_args_support(task.gradient)
    seen, _ = gradient.update(grads, gradient.init(params), params, key=gradient_key)
    return begun | {"loss": loss, "whole": whole, "grads": grads, "seen": seen}


def traced(family):
    """The program of a batch of tasks: a run of a kind, the start of what only suites have."""
    run = one_run if family in KINDS else start
    together = jax.vmap(lambda data, key: run(family, data, key), in_axes=(None, 0))
    return jax.jit(together).trace(family.load(), jax.random.split(jax.random.key(0), TASKS))


@functools.cache
def batch_of_tasks(family):
    """That program, and what it gives: for the tests of a family to share."""
    program, keys = traced(family), jax.random.split(jax.random.key(0), TASKS)
    return program, program.lower().compile()(family.load(), keys)


@each_compiled(EVERY)
def test_tasks_vmap_and_are_finite_and_bounded(family):
    found = dict(batch_of_tasks(family)[1])
    loss, bound = np.asarray(found["loss"]), np.asarray(found.pop("bound"))
    assert loss.dtype == np.float32 and loss.shape == (TASKS,)
    assert len(set(loss.tolist())) == TASKS
    losses = [np.asarray(found[name]) for name in ("loss", "whole") if name in found]
    assert all(np.all(value >= bound) for value in losses)
    trees = [found[name] for name in ("params", "grads", "seen") if name in found]
    assert len({jax.tree.structure(tree) for tree in trees}) == 1
    for leaf in map(np.asarray, jax.tree.leaves((trees, losses))):
        assert leaf.dtype == np.float32 and np.all(np.isfinite(leaf))


@each(REGISTERED)
def test_gradients_agree_with_finite_differences_and_in_a_batch(family):
    """Along a random direction, in double precision: of one task, the first of the batch."""
    data, found = family.load(), jax.tree.map(lambda x: x[0], batch_of_tasks(family)[1])
    key = jax.random.split(jax.random.key(0), TASKS)[0]
    loss_key = jax.random.split(key, 5)[3]
    with jax.enable_x64(True):
        double = lambda x: x.astype(float) if jnp.issubdtype(x.dtype, jnp.floating) else x
        cfg, params = jax.tree.map(double, (found["cfg"], found["params"]))
        flat, unflatten = ravel_pytree(params)
        rng = np.random.default_rng(0)
        away = 0.1 * rng.normal(size=flat.shape)  # biases of 0 put relu on its kink
        direction = rng.normal(size=flat.shape)

        @jax.jit
        def slope(data, flat, step, key):
            task = family.task(cfg, data)

            def along(step):
                return task.loss(unflatten(flat + step * direction), key, found["batch"])

            return jax.jvp(along, (step,), (jnp.ones_like(step),))

        above, below, exact = (
            slope(data, flat + away, jnp.float64(step), loss_key) for step in (1e-8, -1e-8, 0.0)
        )
        assert exact[1].dtype == jnp.float64
        np.testing.assert_allclose((above[0] - below[0]) / 2e-8, exact[1], rtol=1e-5, atol=1e-7)
        (loss, alone), (other, _) = (
            slope(data, flat, jnp.float64(0.0), key) for key in (loss_key, jax.random.key(7))
        )
    if loss != other:  # its draws are others in double precision
        single = jax.jit(lambda data, key: one_run(family, data, key))(data, key)
        loss, alone = single["loss"], np.asarray(ravel_pytree(single["grads"])[0]) @ direction
    np.testing.assert_allclose(found["loss"], loss, rtol=1e-4, atol=1e-6)
    batched = np.asarray(ravel_pytree(found["grads"])[0], float)
    size = np.linalg.norm(batched)
    np.testing.assert_allclose(batched @ direction, alone, rtol=1e-3, atol=1e-4 * size)


@each_compiled(EVERY)
def test_programs_hold_no_data(family):
    program = batch_of_tasks(family)[0].jaxpr
    assert sum(np.asarray(const).nbytes for const in program.consts) < 1000
    assert len(str(program)) < 100_000


@each_compiled(KINDS)
def test_programs_hold_no_randomness_of_their_own(family):
    """It comes from keys alone."""
    program, again = (run.jaxpr for run in (batch_of_tasks(family)[0], traced(family)))
    assert str(program) == str(again)


@each_compiled([family for family in EVERY if hasattr(family, "dataset")])
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
