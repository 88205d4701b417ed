"""Rules with little state, and rules that are another with a part."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import golden
from optax import contrib

from learned_opt import HAND_DESIGNED, make
from learned_opt.hand.amos import entry_size
from learned_opt.hand.smmf import square_shape


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("amos", {"scales": [["w", 0.4]]}, (0.48256568, -0.73984135, -0.21745216)),
        ("smmf", {}, (0.47051202, -0.77761077, -0.18855068)),
        ("smmf", {"decay_rate": -0.8}, (0.47304643, -0.77483462, -0.18847784)),
        ("adamw2", {"iterations": 40}, (0.47002669, -0.77825801, -0.08759133)),
    ],
)
def test_golden(name, fields, expected):
    golden.check(name, expected, **fields)


def test_amos_sizes_tensors_by_their_names_and_inputs():
    shapes = {"norm/scale": (8,), "dense/bias": (8,), "dense/kernel": (16, 8)}
    sizes = {path: entry_size(path, shape) for path, shape in shapes.items()}
    assert sizes == {"norm/scale": 1.0, "dense/bias": 0.5, "dense/kernel": 0.25}
    assert entry_size("token_embedding/table", (100, 8)) == 0.5
    assert entry_size("conv/kernel", (2, 2, 4, 8)) == 0.25
    assert entry_size("conv/kernel", (2, 2, 4, 8), [["dense", 2.0], ["conv", 3.0]]) == 3.0


def test_amos_and_galore_and_mechanic_in_one_program():
    """Amos with momentum is an average of its steps; the others are optax's."""
    adam = {"b1": 0.8, "b2": 0.9}
    base = optax.scale_by_adam(**adam)
    pairs = {
        "galore": (
            make("galore", learning_rate=0.1, rank=1, update_proj_gap=2, scale=0.5, **adam),
            contrib.galore(0.1, 1, 2, 0.5, base),
        ),
        "mechanize": (
            make("adam", learning_rate=0.1, **adam, parts=[{"name": "mechanize", "s_init": 0.1}]),
            contrib.mechanize(optax.adam(0.1, **adam), s_init=0.1),
        ),
        "amos": (
            make("amos", learning_rate=0.1, momentum=0.7),
            optax.chain(make("amos", learning_rate=0.1), optax.ema(0.7, debias=False)),
        ),
    }

    @jax.jit
    def steps(params, *given):
        both = lambda pair: [golden.scanned(tx, params, *given) for tx in pair]
        return {name: both(pair) for name, pair in pairs.items()}

    with jax.enable_x64(True):
        found = steps(golden.double(golden.PARAMS), *golden.stacked())
    for name, (ours, theirs) in found.items():
        for leaf in ours:
            assert not np.array_equal(ours[leaf], golden.PARAMS[leaf])
            np.testing.assert_allclose(ours[leaf], theirs[leaf], rtol=0, atol=1e-7, err_msg=name)


def test_smmf_is_exact_for_a_rank_of_one_and_keeps_a_bit_for_each_sign():
    """Against moments kept whole; the gradient of a rank-one matrix keeps its shares."""
    matrix = jnp.outer(jnp.array([1.0, -2.0, 0.5, 3.0]), jnp.array([0.3, -1.0, 0.2]))
    tx = make("smmf", learning_rate=1.0)

    @jax.jit
    def run():
        state, steps = tx.init(matrix), []
        for scale in (1.0, 0.5, 2.0):
            updates, state = tx.update(scale * matrix, state, matrix)
            steps.append(updates)
        return jnp.stack(steps)

    m = v = 0.0
    for t, (scale, step) in enumerate(zip((1.0, 0.5, 2.0), run(), strict=True), 1):
        gradient = scale * np.asarray(matrix, np.float64)
        m = 0.9 * 0.999 ** (t - 1) * m + (1 - 0.9 * 0.999 ** (t - 1)) * gradient
        v = (1 - t**-0.5) * v + t**-0.5 * gradient**2
        np.testing.assert_allclose(step, -m / (np.sqrt(v) + 1e-8), rtol=1e-5)
    assert [square_shape(n) for n in (1, 7, 12, 64)] == [(1, 1), (7, 1), (4, 3), (8, 8)]
    params = {"w": jnp.zeros((256, 512))}
    assert HAND_DESIGNED["smmf"].state_bytes(params) < 4 * (4 * 512 / params["w"].size) + 0.126


def test_sam_has_the_gradient_of_a_point_uphill():
    """On a quadratic bowl in closed form; a zero gradient stays where it is."""
    curvatures = jnp.array([1.0, 4.0])
    bowl = lambda x: 0.5 * jnp.vdot(curvatures, x * x)
    point = np.array([3.0, 1.0])
    tx = make("sam", learning_rate=1.0, rho=0.1, momentum=0.0)
    step = jax.jit(lambda g, x: tx.update(g, tx.init(x), x, obj_fn=bowl)[0])
    gradient = np.array([3.0, 4.0])
    found = step(jnp.asarray(gradient, jnp.float32), jnp.asarray(point, jnp.float32))
    np.testing.assert_allclose(found, -np.array([1, 4]) * (point + 0.1 * gradient / 5), rtol=1e-6)
    assert not step(jnp.zeros(2), jnp.zeros(2)).any()
