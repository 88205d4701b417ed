"""The thirteen statistics against NumPy in float64, written from the formulas."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_ndtr
from scipy.stats import norm

from learned_opt.controller.statistics import NAMES, Sums, statistics
from learned_opt.hand.ciao import Quantities

EPS = 0.3
RNG = np.random.default_rng(1)
SHAPES = {"a": (4, 5), "b": (3,), "c": ()}


def draw(scale=1.0):
    return {n: (scale * RNG.normal(size=s)).astype(np.float32) for n, s in SHAPES.items()}


GRADIENTS, NOISE, DIRECTION, BEFORE = draw(), draw(0.5), draw(), draw(2.0)
MOMENTUM = {n: GRADIENTS[n] + NOISE[n] for n in SHAPES}
SCALE = {n: np.abs(x) for n, x in draw().items()}
RATE = {n: np.float32(0.1 * (i + 1)) for i, n in enumerate(SHAPES)}
AFTER = {n: BEFORE[n] - RATE[n] * DIRECTION[n] for n in SHAPES}


def size(x):
    return np.linalg.norm(x)


def log(x):
    return np.log(x + 1e-8)


def cos(a, b):
    return a @ b / (size(a) * size(b))


def logit(z):
    return np.clip(log_ndtr(z) - log_ndtr(-z), -18.42, 18.42)


def by_hand():
    rows = []
    for n in SHAPES:
        g, m, u, p, q, s = (
            np.asarray(tree[n], np.float64).ravel()
            for tree in (GRADIENTS, MOMENTUM, DIRECTION, BEFORE, AFTER, SCALE)
        )
        root = np.sqrt(g.size)
        rows.append(
            [
                1.0,
                (s > EPS).mean(),
                log(np.abs(u)).mean(),
                log(size(m)) - log(size(g)),
                log(RATE[n] * size(u)) - log(size(p)),
                log(size(m)) - log(size(m - g)),
                cos(g, m),
                cos(g, q),
                log(size(p)) - log(size(u)),
                cos(g, u),
                logit(root * cos(g, m)),
                logit(root * cos(g, u)),
                norm.cdf(root * cos(g, q)),
            ]
        )
    return np.mean(rows, axis=0)


@jax.jit
def measured(scale, frozen):
    """Of gradients times `scale`, in a tree that also has a leaf of integers."""
    larger = lambda tree: {n: scale * jnp.asarray(x) for n, x in tree.items()} | frozen
    same = lambda tree: {n: jnp.asarray(x) for n, x in tree.items()} | frozen
    seen = Quantities(
        larger(GRADIENTS), larger(MOMENTUM), larger(SCALE), same(DIRECTION), same(RATE),
        jnp.array(True),
    )  # fmt: skip
    return statistics(seen, same(BEFORE), same(AFTER), EPS * scale)


def test_the_published_formulas():
    got = measured(1.0, {"count": jnp.arange(3)})
    np.testing.assert_allclose(got, by_hand(), rtol=1e-4, atol=1e-5)


def test_no_statistic_has_a_unit():
    frozen = {"count": jnp.arange(3)}
    for scale in (1000.0, 1e-6):
        np.testing.assert_allclose(measured(scale, frozen), measured(1.0, frozen), atol=1e-4)


def test_nothing_moves_and_nothing_is_measured():
    zeros = {"a": jnp.zeros((2, 2))}
    still = Quantities(zeros, zeros, zeros, zeros, {"a": jnp.ones(())}, jnp.array(False))
    got = jax.jit(statistics)(still, zeros, zeros, 1e-6)
    assert np.isfinite(got).all() and got[NAMES.index("log_momentum_over_gradient")] == 0.0
    assert np.isnan(Sums.start().mean()).all()
    np.testing.assert_array_equal(Sums.start().adding(got).adding(got).mean(), got)
