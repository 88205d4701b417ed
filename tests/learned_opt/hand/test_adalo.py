"""AdaLo against published values, and how its rate follows the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import golden

from learned_opt import make


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"mode": "adversarial"}, (0.49998718, -0.74999635, -0.19999393)),
        ({"mode": "compliant"}, (0.47170366, -0.74369316, -0.17864018)),
        ({"weight_decay": 0.0}, (0.49993191, -0.75000346, -0.19995891)),
    ],
)
def test_golden(fields, expected):
    golden.check("adalo", expected, learning_rate=1.0, **fields)


def rates(losses, **fields):
    """What multiplies the momentum at each update: b1 = 0 makes that the gradient, which is 1."""
    tx = make("adalo", **({"b1": 0.0, "weight_decay": 0.0} | fields))

    def step(carry, loss):
        params, state = carry
        updates, state = tx.update(jnp.ones(1), state, params, value=loss)
        return (params + updates, state), -updates[0]

    start = jnp.zeros(1)
    return jax.lax.scan(step, (start, tx.init(start)), jnp.asarray(losses, jnp.float32))[1]


def test_the_rate_follows_the_loss():
    losses = np.array([4.0, 2.0, 2.0, 1.0, 0.5])
    powers = 0.9 ** np.arange(5)[:, None] / 0.9 ** np.arange(5) * np.tri(5)
    average = lambda terms: 0.1 * powers @ terms
    full = 1 - 0.9 ** np.arange(1, 6)
    modes = ("paper", "adversarial", "compliant")
    found = jax.jit(
        lambda: (
            [rates(losses, mode=mode, b2=0.9, learning_rate=2.0) for mode in modes],
            [rates(losses, mode=mode, b2=0.9, debias=True) for mode in modes],
            rates(losses, b2=0.9, kappa=0.25, relative=True),
            rates([1.0, np.nan, np.inf, -3.0], b2=0.5),
            rates([0.0, 0.0], relative=True, debias=True),
        )
    )()
    plain, debiased, relative, broken, still = found
    q = average(1 / (2 + losses))
    for seen, factor, e in ((plain, 2, 1.0), (debiased, 1, full)):
        expected = [average(losses) / e, q / e, 1 - q / e]
        np.testing.assert_allclose(seen, factor * np.stack(expected) / 3, rtol=1e-4)
    np.testing.assert_allclose(relative, average(losses) / (0.25 * 4.0), rtol=1e-5)
    np.testing.assert_allclose(broken, np.array([0.5, 0.5, 0.5, 0.25]) / 3, rtol=1e-6)
    np.testing.assert_allclose(still, 1e-8, rtol=1e-6)


def test_the_loss_is_asked_for():
    tx = make("adalo")
    with pytest.raises(ValueError, match=r"adalo needs the loss: tx.update\(.*value=loss"):
        tx.update(jnp.ones(1), tx.init(jnp.ones(1)), jnp.ones(1))
