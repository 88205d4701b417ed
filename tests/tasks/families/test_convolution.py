import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.convolution import (
    conv,
    conv_init,
    edges,
    group_norm,
    max_pool,
    output_side,
    patches,
)

CASES = [
    (side, kernel, stride, padding)
    for side in (5, 8)
    for kernel in (1, 3, 5)
    for stride in (1, 2, 3)
    for padding in ("same", "valid")
]


@pytest.mark.parametrize(("side", "kernel", "stride", "padding"), CASES)
def test_convolutions_are_those_of_jax(side, kernel, stride, padding):
    x = jax.random.normal(jax.random.key(0), (2, side, side + 1, 3))
    params = conv_init(jax.random.key(1), kernel, 3, 4)
    expected = jax.lax.conv_general_dilated(
        x,
        params["weight"],
        (stride, stride),
        padding.upper(),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    found = conv(params, x, stride, padding)
    assert found.shape[1] == output_side(side, kernel, stride, padding)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    shifted = conv({**params, "bias": jnp.arange(4.0)}, x, stride, padding)
    np.testing.assert_allclose(shifted, expected + np.arange(4.0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("padding", "stride"), [("same", 1), ("same", 2), ("valid", 2)])
def test_convolution_against_a_loop_in_numpy(padding, stride):
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 2))
    weight = np.random.default_rng(1).normal(size=(3, 3, 2, 3))
    found = conv({"weight": jnp.float32(weight)}, jnp.float32(x), stride, padding)
    low = [edges(side, 3, stride, padding)[0] for side in (6, 5)]
    expected = np.zeros(found.shape)
    for n, row, column, i, j in np.ndindex(2, *found.shape[1:3], 3, 3):
        y, z = row * stride + i - low[0], column * stride + j - low[1]
        if 0 <= y < 6 and 0 <= z < 5:
            expected[n, row, column] += x[n, y, z] @ weight[i, j]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_patches_that_tile_an_image_hold_every_pixel_once():
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    tiles = patches(x, 2, 2, ((0, 0), (0, 0)))
    assert tiles.shape == (2, 2, 3, 2, 2, 3)
    np.testing.assert_array_equal(tiles[1, 1, 2], x[1, 2:4, 4:6])


def test_max_pool_looks_at_the_image_alone():
    x = -1 - jax.random.uniform(jax.random.key(0), (2, 7, 4, 3))
    found = max_pool(x, kernel=3, stride=2)
    expected = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    np.testing.assert_array_equal(found, expected)
    slopes = jax.grad(lambda x: max_pool(x, kernel=3, stride=2).sum())(x)
    np.testing.assert_allclose(slopes.sum(), found.size)


def test_group_norm_statistics_and_affine_part():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, size=(4, 5, 5, 6))
    plain = {"gain": jnp.ones(6), "offset": jnp.zeros(6)}
    found = np.asarray(group_norm(plain, jnp.float32(x), 2)).reshape(4, 25, 2, 3)
    np.testing.assert_allclose(found.mean((1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(found.std((1, 3)), 1, rtol=1e-4)
    gain, offset = rng.normal(size=6), rng.normal(size=6)
    params = {"gain": jnp.float32(gain), "offset": jnp.float32(offset)}
    scaled = group_norm(params, jnp.float32(x), 2)
    expected = found.reshape(x.shape) * gain + offset
    np.testing.assert_allclose(scaled, expected, rtol=1e-4, atol=1e-5)
    # Images do not see each other, nor do groups.
    other = x.copy()
    other[1:] += 1
    other[..., 3:] *= 2
    changed = np.asarray(group_norm(plain, jnp.float32(other), 2))
    np.testing.assert_array_equal(changed[0, ..., :3], found.reshape(x.shape)[0, ..., :3])
