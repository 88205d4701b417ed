"""What holds for every anchor."""

import jax
import jax.numpy as jnp
import pytest

from learned_opt.anchors.registry import ANCHORS
from learned_opt.anchors.relative_soap import RelativeSoap

CASES = {kind: build() for kind, build in ANCHORS.items()}
CASES["relative_soap, b2 of 0.9"] = RelativeSoap(b2=0.9)


@pytest.mark.parametrize("anchor", CASES.values(), ids=CASES)
def test_no_direction_that_rules_mix_outgrows_an_outlier(anchor):
    """After a gradient of 1e6, gradients of 1: a slow average must not outlive the squares."""
    noise = jax.random.normal(jax.random.key(0), (600, 6, 4))
    gradients = noise.at[20].mul(1e6)

    def step(carry, gradient):
        states, count = carry
        states, directions = anchor.step(states, [gradient], count, anchor.momenta())
        return (states, count + 1), jnp.stack([jnp.max(jnp.abs(u)) for u in directions[0]])

    start = ([anchor.init((6, 4), anchor.momenta())], jnp.int32(1))
    _, largest = jax.lax.scan(step, start, gradients)
    assert largest.shape == (600, 3)
    assert float(largest.max()) < 11.0  # 1 / sqrt(1 - 0.99), of an outlier as it comes
