import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.descent import trained

from tasks.families.flows import (
    LOWER_BOUND,
    MAF,
    NOISE,
    NVP,
    autoregress,
    couple,
    log_density,
    masks,
)
from tasks.families.layers import mlp_init


def networks(transform, dim, bijectors, widths, scale=2.0, seed=0):
    """Parameters of a flow with biases that are not zero."""
    sizes = (dim, *widths, 2 * dim)
    if transform is couple:
        sizes = (dim // 2, *widths, 2 * (dim - dim // 2))
    keys = jax.random.split(jax.random.key(seed), bijectors)
    params = {f"bijector{i}": mlp_init(key, sizes, scale) for i, key in enumerate(keys)}
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    return structure.unflatten(
        x + 0.3 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys, strict=True)
    )


@pytest.mark.parametrize("widths", [(), (3,), (5, 7)])
def test_masks_let_outputs_see_earlier_inputs_only(widths):
    dim = 4
    paths = np.eye(dim)
    for mask in masks(dim, widths):
        paths = paths @ np.asarray(mask, float)
    earlier = np.arange(dim)[:, None] < np.arange(dim)[None, :]
    seen = paths > 0
    assert not np.any(seen & ~np.tile(earlier, 2))
    if not widths or min(widths) >= dim - 1:
        np.testing.assert_array_equal(seen, np.tile(earlier, 2))


@pytest.mark.parametrize("transform", [autoregress, couple])
@pytest.mark.parametrize("dim", [4, 5])
def test_log_determinant_is_that_of_the_jacobian(transform, dim):
    params = networks(transform, dim, 1, (6, 6))["bijector0"]

    def point(x):
        out, log_det = transform(params, x[None], "tanh")
        return out[0], log_det[0]

    points = jax.random.normal(jax.random.key(5), (8, dim))
    both = jax.jit(jax.vmap(lambda x: (jax.jacobian(lambda x: point(x)[0])(x), point(x)[1])))
    jacobians, found = map(np.asarray, both(points))
    np.testing.assert_allclose(np.linalg.slogdet(jacobians)[1], found, rtol=1e-4, atol=1e-4)
    assert np.all(np.triu(jacobians, 1) == 0) and np.ptp(found) > 0.1


@pytest.mark.parametrize("transform", [autoregress, couple])
def test_log_density_of_a_stack_is_the_change_of_variables(transform):
    dim, params = 4, networks(transform, 4, 3, (6,))

    def flow(x):
        for i in range(3):
            x = transform(params[f"bijector{i}"], x[None], "relu")[0][0, ::-1]
        return x

    points = jax.random.normal(jax.random.key(5), (6, dim))
    both = jax.jit(jax.vmap(lambda x: (flow(x), jax.jacobian(flow)(x))))
    out, jacobians = (np.asarray(found, np.float64) for found in both(points))
    log_det = np.linalg.slogdet(jacobians)[1]
    expected = log_det - 0.5 * (out**2).sum(1) - 0.5 * dim * math.log(2 * math.pi)
    found = jax.jit(lambda x: log_density(params, x, transform, "relu"))(points)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bijectors", [1, 3])
@pytest.mark.parametrize(("transform", "dim"), [(autoregress, 1), (autoregress, 2), (couple, 2)])
def test_densities_integrate_to_one(transform, dim, bijectors):
    params = networks(transform, dim, bijectors, (4,), scale=0.5)
    axis = jnp.linspace(-12, 12, 401)
    grid = jnp.stack(jnp.meshgrid(*[axis] * dim), -1).reshape(-1, dim)
    density = jnp.exp(jax.jit(lambda x: log_density(params, x, transform, "tanh"))(grid))
    total = np.sum(np.asarray(density, np.float64)) * float(axis[1] - axis[0]) ** dim
    np.testing.assert_allclose(total, 1, rtol=2e-3)


@pytest.mark.parametrize("kind", [MAF, NVP])
def test_loss_of_the_identity_and_of_the_best_density_of_one_image(kind):
    """Weights 0 leave x as it is; a scale of the noise around the image costs its entropy."""
    family = kind(bijectors=1, widths=(), image_size=4)
    task = family.task(family.sample(jax.random.key(0)), jax.tree.map(jnp.asarray, family.load()))
    shapes = jax.eval_shape(task.init, jax.random.key(1))
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    batch = task.whole("train")
    x = np.asarray(batch["image"], np.float64).reshape(-1, 4, 2, 4, 2).mean((2, 4)) / 16
    expected = 0.5 * math.log(2 * math.pi) + 0.5 * (x**2).mean() + 0.5 * NOISE**2
    found = jax.jit(task.loss)(params, jax.random.key(2), batch)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    if kind is MAF:
        same = {"image": jnp.repeat(batch["image"][:1], 200, 0)}
        raw = 5 * math.atanh(math.log(NOISE) / 5)
        bias = jnp.concatenate([jnp.asarray(x[0].ravel(), jnp.float32), jnp.full(16, raw)])
        params["bijector0"]["layer0"]["bias"] = bias
        entropy = 0.5 * math.log(2 * math.pi * math.e * NOISE**2)
        found = jax.jit(task.loss)(params, jax.random.key(2), same)
        np.testing.assert_allclose(found, entropy, atol=0.05)
        np.testing.assert_allclose(LOWER_BOUND, entropy - 1)


@pytest.mark.parametrize("kind", [MAF, NVP])
def test_flows_learn_more_than_the_best_independent_normals(kind):
    family = kind(image_size=4, widths=(32,), bijectors=2)
    before, after, _ = trained(family, steps=400, rate=5e-3)
    image = family.load()["train"]["image"].reshape(-1, 4, 2, 4, 2).mean((2, 4)) / 16
    variance = image.reshape(-1, 16).var(0) + NOISE**2
    independent = 0.5 * np.log(2 * math.pi * math.e * variance).mean()
    assert LOWER_BOUND < after < independent < before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MAF(image_size=1), "image_size: 1 .* two pixels"),
        (lambda: NVP(image_size=9), "image_size: 9 is not allowed"),
        (lambda: MAF(dataset="wine"), "dataset: unknown name 'wine'"),
        (lambda: NVP(bijectors=0), "bijectors: 0"),
        (lambda: MAF(widths=(0,)), "widths: 0"),
        (lambda: NVP(activation="rellu"), "did you mean relu"),
        (lambda: MAF(subset=(0.5, 2.0)), "subset"),
    ],
)
def test_bad_fields_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
