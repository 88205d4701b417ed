"""Rules with a rare and costly update, for several runs under vmap."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from learned_opt import make

RULES: dict[str, dict[str, Any]] = {
    "soap": {"update_interval": 3},
    "shampoo": {"update_interval": 3},
    "galore": {"update_proj_gap": 3, "rank": 2},
    "relative_soap": {"update_interval": 3, "num_steps": 20},
}
FACTORISATIONS = {"eigh", "qr", "geqrf", "householder_product", "svd"}


def always_run(jaxpr):
    """Names of the primitives that no branch decides on."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        if equation.primitive.name != "cond":
            for inner in jaxprs_in_params(equation.params):
                yield from always_run(inner)


@pytest.fixture(scope="module")
def runs():
    generator = np.random.default_rng(0)
    drawn = lambda *shape: jnp.asarray(generator.normal(size=shape), jnp.float32)
    return {"w": drawn(4, 5, 3), "b": drawn(4, 3)}, {"w": drawn(8, 4, 5, 3), "b": drawn(8, 4, 3)}


@pytest.mark.parametrize("rule", RULES)
def test_runs_are_the_runs_alone(rule, runs):
    """Each run at an update of its own, some due and some not."""
    params, gradients = runs
    tx = make(rule, **RULES[rule])
    update = jax.jit(lambda g, state, p: tx.update(g, state, p))
    states, expected = [], []
    for i in range(4):
        own = jax.tree.map(lambda x, i=i: x[i], params)
        given = jax.tree.map(lambda x, i=i: x[:, i], gradients)
        state = tx.init(own)
        for t in range(i):
            _, state = update(jax.tree.map(lambda g, t=t: g[t], given), state, own)
        states.append(state)
        expected.append(update(jax.tree.map(lambda g: g[-1], given), state, own))
    stacked, expected = (
        jax.tree.map(lambda *x: jnp.stack(x), *runs) for runs in (states, expected)
    )
    last = jax.tree.map(lambda g: g[-1], gradients)
    found = jax.jit(jax.vmap(lambda g, s, p: tx.update(g, s, p)))(last, stacked, params)
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, found, expected)


@pytest.mark.parametrize("rule", RULES)
def test_factorisations_stay_in_their_branch(rule, runs):
    params, gradients = runs
    tx = make(rule, **RULES[rule])
    states = jax.vmap(tx.init)(params)
    now = jax.tree.map(lambda g: g[0], gradients)
    program = jax.make_jaxpr(jax.vmap(lambda g, s, p: tx.update(g, s, p)))(now, states, params)
    assert FACTORISATIONS.isdisjoint(always_run(program.jaxpr))
