"""Relatives of Adam, against published values and by their properties."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import golden

from learned_opt import make
from learned_opt.hand.parts.gl_fractional import coefficients, gl_fractional


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("nsgda", {}, (0.33702881, -0.74619102, -0.08882274)),
        ("nsgda", {"scope": "global"}, (0.36098788, -0.74604987, -0.11789319)),
        ("adam_atan2", {}, (0.30310634, -0.93879565, -0.08477340)),
        ("adam_atan2", {"a": 1.0}, (0.34496562, -0.89865799, -0.10927040)),
        ("adan", {}, (0.39170060, -0.91163709, -0.16771424)),
        ("adan", {"weight_decay": 0.1}, (0.38047887, -0.88513896, -0.16375703)),
        ("diffgrad", {}, (0.39176493, -0.84533496, -0.12808019)),
        ("adamomentum", {}, (-1.11397938, -1.40988295, 0.93256595)),
        ("sadam", {}, (0.40275525, -0.75650970, -0.12314430)),
        ("nadam_dozat", {}, (0.42681196, -0.86710356, -0.17759393)),
        ("adams", {"weight_decay": 0.1}, (0.25961905, -0.83451526, -0.07275707)),
        ("adagl", {}, (0.37417306, -0.86178056, -0.11991412)),
    ],
)
def test_golden(name, fields, expected):
    golden.check(name, expected, **fields)


def test_invariances_and_lengths():
    """In float64: gradient scale, step lengths, the two decays of adan, orders of differences."""
    nsgda = {"learning_rate": 0.1, "weight_decay": 0.0}

    @jax.jit
    def moved():
        run = lambda name, scale=1.0, **fields: golden_run(name, scale, **fields)
        return {
            "atan2": [run("adam_atan2", scale) for scale in (1.0, 1e-20, 1e20)],
            "nsgda": [run("nsgda", scale, **nsgda) for scale in (1.0, 1e6)],
            "rms": run("nsgda", **nsgda, rms=True),
            "adan": [run("adan", weight_decay=0.5, no_prox=flag) for flag in (False, True)],
        }

    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, moved())
    for name, tolerance in (("atan2", 1e-12), ("nsgda", 1e-6)):
        for other in found[name][1:]:
            close = lambda x, y, rtol=tolerance: np.testing.assert_allclose(x, y, rtol=rtol)
            jax.tree.map(close, other, found[name][0])
    for leaf in found["nsgda"][0].values():
        np.testing.assert_allclose(np.linalg.norm(leaf), 0.1, rtol=1e-6)
    for leaf in found["rms"].values():
        np.testing.assert_allclose(np.sqrt(np.mean(np.square(leaf))), 0.1, rtol=1e-6)
    proximal, decoupled = found["adan"]
    for name, leaf in proximal.items():
        np.testing.assert_allclose(1.05 * leaf, decoupled[name], rtol=1e-12)


def golden_run(name, scale=1.0, **fields):
    """The second step of `name`, for the golden gradients times `scale`."""
    tx = make(name, **({"learning_rate": 0.1} | fields))
    params = golden.double(golden.PARAMS)
    state, updates = tx.init(params), None
    for gradient in golden.GRADIENTS[:2]:
        gradient = jax.tree.map(lambda g: scale * g, golden.double(gradient))
        updates, state = tx.update(gradient, state, params)
    return updates


def test_fractional_differences():
    """Weights of the published example, and a ring of past gradients that forgets."""
    gains = [float(jnp.sum(coefficients(alpha, 10))) for alpha in (0.1, 0.3, 0.5, 0.9, -0.3)]
    np.testing.assert_allclose(gains, [0.74, 0.38, 0.18, 0.013, 2.27], atol=5e-3)
    gradients = np.cos(np.arange(7.0, dtype=np.float32))
    for alpha, history in ((0.4, 3), (0.0, 2), (1.0, 1)):
        tx = gl_fractional(alpha, history)
        step = lambda state, g, tx=tx: tx.update(g, state)[::-1]
        _, found = jax.lax.scan(step, tx.init(jnp.float32(0.0)), jnp.asarray(gradients))
        c = np.asarray(coefficients(alpha, history))
        full = np.convolve(gradients, c)[: len(gradients)]
        np.testing.assert_allclose(found, full, atol=1e-6)


def test_sadam_debiased_inside_and_adamomentum_debiased_take_adams_first_step():
    fields = {"learning_rate": 0.1}
    with jax.enable_x64(True):
        params, gradient = golden.double(golden.PARAMS), golden.double(golden.GRADIENTS[0])

        def first(tx):
            return tx.update(gradient, tx.init(params), params)[0]

        adam = first(optax.adam(0.1))
        sharp = first(make("sadam", sharpness=1e4, debias_inside=True, **fields))
        momentum = first(make("adamomentum", eps=1e-20, debias_m_in_v=True, **fields))
        for other in (sharp, momentum):
            jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), other, adam)
