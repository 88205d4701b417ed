"""The kinds of weight decay, against published values and closed forms."""

import golden
import jax
import numpy as np
import pytest

from learned_opt import make

ADAMW = (0.29606548, -0.91462721, -0.08383263)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        (0.1, ADAMW),
        ({"kind": "decoupled", "value": 0.1}, ADAMW),
        ({"kind": "independent", "value": 0.01}, ADAMW),
        ({"kind": "stable", "value": 0.1}, (0.25961905, -0.83451526, -0.07275707)),
        ({"kind": "cautious", "value": 0.1}, (0.29606548, -0.93039296, -0.08461133)),
    ],
)
def test_golden(decay, expected):
    golden.check("adam", expected, weight_decay=decay)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"bound": "dependent", "value": 0.9}, (0.150417, -0.813103, -0.055718)),
        ({"bound": "warm_start", "value": 2}, (0.226751, -0.975311, -0.055718)),
        (
            {"bound": "dependent", "value": 0.9, "measure": "std"},
            (0.235550, -0.670135, -0.055718),
        ),
    ],
)
def test_golden_of_the_constrained_kind(fields, expected):
    with jax.enable_x64(True):
        tx = make("adam", learning_rate=0.1, weight_decay={"kind": "constrained", **fields})
        found = golden.run(tx, 6)
    got = (found["w"][0, 0], found["w"][1, 2], found["b"][1])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
