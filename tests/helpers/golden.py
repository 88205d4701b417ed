"""Three fixed gradients for a matrix and a vector in float64: what an update rule makes of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt import make

PARAMS = {"w": [[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]], "b": [0.1, -0.2]}
GRADIENTS = (
    {"w": [[0.3, -0.1, 0.05], [-0.2, 0.4, 0.01]], "b": [0.02, -0.5]},
    {"w": [[0.1, 0.2, -0.05], [0.05, -0.4, 0.02]], "b": [0.1, 0.3]},
    {"w": [[-0.3, 0.15, 0.1], [0.2, 0.1, -0.03]], "b": [-0.04, 0.2]},
)
LOSSES = (2.0, 1.5, 1.0)


def double(tree: Any) -> Any:
    return {name: jnp.asarray(np.asarray(value, np.float64)) for name, value in tree.items()}


def run(tx: Any, count: int = 3, **extra: Any) -> dict[str, np.ndarray]:
    """The tensors after `count` updates, gradients and losses taken in turn; within enable_x64."""
    params = double(PARAMS)
    state = tx.init(params)
    step = jax.jit(lambda g, s, p, value: tx.update(g, s, p, value=value, **extra))
    for t in range(count):
        updates, state = step(double(GRADIENTS[t % 3]), state, params, LOSSES[t % 3])
        params = optax.apply_updates(params, updates)
    return {name: np.asarray(value) for name, value in params.items()}


def stacked() -> tuple[dict[str, jax.Array], jax.Array]:
    """The gradients and the losses with a leading axis of three; within enable_x64."""
    gradients = [double(gradient) for gradient in GRADIENTS]
    return jax.tree.map(lambda *g: jnp.stack(g), *gradients), jnp.asarray(LOSSES)


def scanned(tx: Any, params: Any, gradients: Any, losses: Any) -> Any:
    """The tensors after an update for each gradient, in a scan; to be traced."""
    tx = optax.with_extra_args_support(tx)

    def step(carry: Any, given: Any) -> Any:
        params, state = carry
        updates, state = tx.update(given[0], state, params, value=given[1])
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), (gradients, losses))[0][0]


def check(name: str, expected: tuple[float, float, float], tolerance: float = 2e-8, **fields: Any):
    """W[0, 0], W[1, 2] and b[1] after three steps of `name`; its rate is 0.1 unless given."""
    fields = {"learning_rate": 0.1} | fields
    with jax.enable_x64(True):
        found = run(make(name, **fields))
    got = (found["w"][0, 0], found["w"][1, 2], found["b"][1])
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)
