"""The 14 groups against NumPy float64, and their derivatives where there is no gradient."""

import jax
import jax.numpy as jnp
import numpy as np
from helpers.moments import MomentOracle

from learned_opt.learned.parts.memory import Decays, Memory
from learned_opt.learned.parts.moment_features import (
    FACTORED_DECAYS,
    GROUPS,
    MOMENTUM_DECAYS,
    moment_base,
    moment_features,
)

DECAYS = Decays(jnp.array(MOMENTUM_DECAYS), jnp.array([0.95]), jnp.array(FACTORED_DECAYS))
SHAPES = [(1,), (4,), (3, 2), (2, 1, 3), (2, 3, 1, 3)]


def fresh(shape) -> Memory:
    return jax.tree.map(lambda x: x[0], Memory.zeros(1, shape, (3, 1, 3)))


@jax.jit
def two_steps(params, gradients):
    seen = []
    for p, tensor in zip(params, zip(*gradients, strict=True), strict=True):
        memory = fresh(p.shape)
        for g in tensor:
            memory = memory.step(DECAYS, g)
            groups = moment_features(*moment_base(g, p, memory), square_eps=1e-8)
            assert tuple(len(group) for group in groups) == GROUPS
            seen.append([jnp.broadcast_to(x, (len(x), *p.shape)) for x in groups])
    return [jnp.concatenate(groups) for groups in seen]


def test_features_agree_with_the_second_implementation():
    keys = jax.random.split(jax.random.key(0), 3)
    params, *gradients = ([jax.random.normal(key, s) for s in SHAPES] for key in keys)
    gradients[1] = [30.0 * g for g in gradients[1]]
    seen = iter(two_steps(params, gradients))
    for p, tensor in zip(params, zip(*gradients, strict=True), strict=True):
        oracle = MomentOracle(p.shape, square_beta=0.95, square_eps=1e-8)
        for g in tensor:
            np.testing.assert_allclose(next(seen), oracle.features(p, g), rtol=2e-5)


def test_derivatives_are_finite_where_gradients_are_zero():
    """The root without an epsilon has a derivative beyond float32 there."""

    @jax.jit
    def total(scale):
        g = scale * jnp.array([0.0, 1.0])
        memory = fresh((2,)).step(DECAYS, g)
        return jnp.stack([x.sum() for x in moment_features(*moment_base(g, g, memory))])

    derivative = jax.jacfwd(total)(jnp.float32(1.0))
    assert bool(jnp.isfinite(derivative).all())
    assert bool(jnp.isfinite(jax.jacrev(total)(jnp.float32(1.0))).all())
