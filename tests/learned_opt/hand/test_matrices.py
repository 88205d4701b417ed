"""SOAP and Shampoo, against published values and independent computations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import golden

from learned_opt import HAND_DESIGNED, make

SHAMPOO = {"momentum": 0.0, "update_interval": 1}


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("soap", {"weight_decay": 0.0}, (0.34870097, -0.78612297, -0.39803981)),
        ("shampoo", SHAMPOO, (0.41489492, -0.75864890, -0.18389386)),
    ],
)
def test_golden(name, fields, expected):
    golden.check(name, expected, 1e-7, **fields)


def run(tx, gradients):
    """Every step for a leaf's gradients, in float64."""

    @jax.jit
    def steps(gradients):
        step = lambda state, g: tx.update(g, state, jnp.zeros_like(g))[::-1]
        return jax.lax.scan(step, tx.init(jnp.zeros_like(gradients[0])), gradients)[1]

    return np.asarray(steps(jnp.asarray(gradients)))


def turned(statistic, basis):
    """One step of power iteration, and the order of the columns by estimated eigenvalue."""
    order = np.argsort(-np.diag(basis.T @ statistic @ basis))
    return np.linalg.qr(statistic @ basis[:, order])[0], order


def soap(gradients, rate, b1, b2, b3, every):
    """The published algorithm for a matrix, as a loop."""
    first = gradients[0]
    left, right = (1 - b3) * first @ first.T, (1 - b3) * first.T @ first
    ql, qr = np.linalg.eigh(left)[1][:, ::-1], np.linalg.eigh(right)[1][:, ::-1]
    m = v = np.zeros_like(first)
    steps = [np.zeros_like(first)]
    for t, g in enumerate(gradients[1:], 1):
        seen = ql.T @ g @ qr
        m, v = b1 * m + (1 - b1) * seen, b2 * v + (1 - b2) * seen**2
        u = ql @ (m / (np.sqrt(v) + 1e-8)) @ qr.T
        steps.append(-rate * np.sqrt(1 - b2**t) / (1 - b1**t) * u)
        left, right = b3 * left + (1 - b3) * g @ g.T, b3 * right + (1 - b3) * g.T @ g
        if t % every == 0:
            plain = ql @ m @ qr.T
            ql, rows = turned(left, ql)
            qr, columns = turned(right, qr)
            m, v = ql.T @ plain @ qr, v[rows][:, columns]
    return np.stack(steps)


def shampoo(gradients, rate, b2, every):
    """Averages, each axis its root, the length of the gradient; axes of one entry left out."""
    roots, steps, shape = {}, [], gradients.shape[1:]
    sums = {axis: 1e-4 * np.eye(size) for axis, size in enumerate(shape) if size > 1}
    for t, g in enumerate(gradients):
        u = g
        for axis, statistic in sums.items():
            rows = np.moveaxis(g, axis, 0).reshape(shape[axis], -1)
            sums[axis] = b2 * statistic + (1 - b2) * rows @ rows.T
            if t % every == 0:
                values, vectors = np.linalg.eigh(sums[axis])
                powers = np.maximum(values, 1e-4) ** (-1 / (2 * len(sums)))
                roots[axis] = vectors @ np.diag(powers) @ vectors.T
            u = np.moveaxis(np.tensordot(roots[axis], u, (1, axis)), 0, axis)
        steps.append(-rate * u * np.linalg.norm(g) / np.linalg.norm(u))
    return np.stack(steps)


def test_follow_the_published_algorithms():
    draw = np.random.default_rng(3).normal
    matrix, kernel = draw(size=(8, 3, 4)), draw(size=(5, 2, 1, 3, 4))
    with jax.enable_x64(True):
        fields = {"b1": 0.8, "b2": 0.9, "b3": 0.7, "update_interval": 2, "weight_decay": 0.0}
        by_soap = run(make("soap", learning_rate=0.1, **fields), matrix)
        fields = {"momentum": 0.0, "b2": 0.9, "graft": "sgd", "update_interval": 2}
        by_shampoo = run(make("shampoo", learning_rate=0.1, **fields), kernel)
    np.testing.assert_allclose(by_soap, soap(matrix, 0.1, 0.8, 0.9, 0.7, 2), atol=1e-10)
    np.testing.assert_allclose(by_shampoo, shampoo(kernel, 0.1, 0.9, 2), atol=1e-10)


def test_soap_stands_still_where_gradients_of_low_rank_never_point():
    """In float32, where rotated zeros are rounding that Adam alone would take for a signal."""
    draw = np.random.default_rng(5).normal
    gradients = np.einsum("ti,tj->tij", draw(size=(6, 1)) * [1.0, 2.0, -1.0], draw(size=(6, 4)))
    moved = run(make("soap", weight_decay=0.0), gradients.astype(np.float32))[1:].sum(0)
    across = np.array([2.0, -1.0, 0.0]) @ moved
    np.testing.assert_allclose(across, 0.0, atol=1e-5 * np.abs(moved).max())


def test_leaves_that_are_not_rotated_have_adam_and_adagrad():
    gradients = np.random.default_rng(4).normal(size=(3, 2, 3))
    with jax.enable_x64(True):
        fields = {"learning_rate": 0.1, "max_precond_dim": 1}
        plain = run(make("soap", weight_decay=0.0, **fields), gradients)
        adam = run(optax.adam(0.1, 0.95, 0.95), gradients[1:])
        summed = run(make("shampoo", graft="adam", momentum=0.0, **fields), gradients)
        grafted = run(optax.adam(0.1), gradients)
    np.testing.assert_allclose(plain[1:], adam, rtol=1e-6)
    assert not plain[0].any()
    sums = np.sqrt(np.cumsum(gradients**2, axis=0))
    for step, by, direction in zip(summed, grafted, gradients / sums, strict=True):
        direction = -direction / np.linalg.norm(direction)
        np.testing.assert_allclose(step, direction * np.linalg.norm(by), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("soap", "update_interval"),
        ("shampoo", "max_precond_dim"),
        ("sophia_g", "batch_size"),
        ("sophia_h", "update_interval"),
        ("adagl", "history"),
    ],
)
def test_counts_start_at_one(name, field):
    with pytest.raises(ValueError, match=f"{field}: 0 is not allowed.*at least 1"):
        make(name, **{field: 0})


@pytest.mark.parametrize(
    ("name", "floats"),
    [
        ("nsgda", 1.0),
        ("adam_atan2", 2.0),
        ("adan", 4.0),
        ("diffgrad", 3.0),
        ("adamomentum", 2.0),
        ("sadam", 2.0),
        ("nadam_dozat", 2.0),
        ("adagl", 12.0),
        ("adams", 2.0),
        ("am_sgd", 1.0),
        ("am_adamw", 2.0),
        ("mars_adamw", 3.0),
        ("mars_lion", 2.0),
        ("mars_shampoo", 2.0),
        ("sophia_g", 2.0),
        ("sophia_h", 2.0),
        ("soap", 7.0),
        ("shampoo", 6.0),
    ],
)
def test_state_is_as_large_as_published(name, floats):
    """Floats for each parameter of a (256, 512) kernel and its bias."""
    np.testing.assert_allclose(HAND_DESIGNED[name].state_bytes() / 4, floats, rtol=6e-3)
