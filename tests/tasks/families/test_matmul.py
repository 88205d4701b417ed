import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.oracles import agrees, drawn

from tasks.families.matmul import MatMulAlgorithm

# Strassen's seven products: columns are forms in (a11, a12, a21, a22) and in (b11, b12, b21, b22).
STRASSEN = {
    "left": [
        [1, 0, 1, 0, 1, -1, 0],
        [0, 0, 0, 0, 1, 0, 1],
        [0, 1, 0, 0, 0, 1, 0],
        [1, 1, 0, 1, 0, 0, -1],
    ],
    "right": [
        [1, 1, 0, -1, 0, 1, 0],
        [0, 0, 1, 0, 0, 1, 0],
        [0, 0, 0, 1, 0, 0, 1],
        [1, 0, -1, 0, 1, 0, 1],
    ],
}


def residual(size):
    """The loss in NumPy, by brute force over all pairs of unit matrices."""

    def formula(params):
        rows, products = [], []
        for a in range(size**2):
            for b in range(size**2):
                left, right = np.zeros(size**2), np.zeros(size**2)
                left[a] = right[b] = 1
                rows.append((left @ params["left"]) * (right @ params["right"]))
                products.append((left.reshape(size, size) @ right.reshape(size, size)).ravel())
        pairs, target = np.array(rows), np.array(products)
        best = np.linalg.lstsq(pairs, target, rcond=None)[0]
        return np.sum((pairs @ best - target) ** 2)

    return formula


@pytest.mark.parametrize("size, products", [(2, 5), (2, 6), (3, 9)])
def test_the_loss_is_the_least_error_over_unit_matrices(size, products):
    _, task, params = drawn(MatMulAlgorithm(size, products))
    agrees(task, params, (), residual(size), rtol=1e-3)


def test_strassen_and_the_schoolbook_are_algorithms():
    task = MatMulAlgorithm(2, 7).task((), ())
    strassen = jax.tree.map(
        lambda rows: jnp.array(rows, jnp.float32), STRASSEN, is_leaf=lambda x: isinstance(x, list)
    )
    assert residual(2)(jax.tree.map(np.float64, strassen)) < 1e-20
    loss, grads = jax.jit(jax.value_and_grad(task.loss))(strassen, jax.random.key(0), ())
    assert 0 <= loss < 1e-8
    assert max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(grads)) < 1e-3
    one = jnp.eye(3)  # a_ij b_jk for all i, j, k
    school = {
        "left": jnp.einsum("ai,bj->abij", one, one)[..., None] * jnp.ones(3),
        "right": jnp.einsum("bj,ck->bcjk", one, one)[:, :, None] * jnp.ones((3, 1, 1)),
    }
    school = jax.tree.map(lambda forms: forms.reshape(9, 27), school)
    loss = jax.jit(MatMulAlgorithm(3, 27).task((), ()).loss)
    assert loss(school, jax.random.key(0), ()) < 1e-8


def test_starts_have_unit_columns_and_singular_products_are_finite():
    _, task, params = drawn(MatMulAlgorithm(3, 19))
    assert params["left"].shape == params["right"].shape == (9, 19)
    np.testing.assert_allclose(jnp.linalg.norm(params["left"], axis=0), 1, rtol=1e-5)
    same = jax.tree.map(lambda forms: jnp.tile(forms[:, :1], (1, 19)), params)
    loss, grads = jax.jit(jax.value_and_grad(task.loss))(same, jax.random.key(0), ())
    assert all(np.all(np.isfinite(leaf)) for leaf in (loss, *jax.tree.leaves(grads)))


def test_bad_fields_are_named():
    with pytest.raises(ValueError, match=r"products: 3 is not allowed; it must be 4 \.\. 8"):
        MatMulAlgorithm(2, 3)
