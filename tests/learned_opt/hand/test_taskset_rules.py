"""TaskSet's two rules against computations in NumPy's float64."""

import jax
import numpy as np
import pytest
from helpers import golden

from learned_opt import make

STEPS = 20


def adam8p(w, gradients, rate, b1, b2, eps, l1, l2, linear, exponential):
    m = v = 0.0
    for t, g in enumerate(gradients):
        g = g + l1 * np.sign(w) + 2 * l2 * w
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        scaled = t * 10_000 / STEPS
        factor = np.exp(-exponential * scaled) * max(1 - linear * scaled, 0)
        m_hat, v_hat = m / (1 - b1 ** (t + 1)), v / (1 - b2 ** (t + 1))
        w = w - rate * factor * m_hat / (np.sqrt(v_hat + 1e-10) + eps)
    return w


def factor_of(t, warmup, constant, final):
    warmup = min(warmup, constant)
    if t < warmup * STEPS:
        return t / (warmup * STEPS)
    progress = max(min(t, STEPS) / STEPS - constant, 0) / (1 - constant)
    return final + (1 - final) * (1 + np.cos(np.pi * progress)) / 2


def nadamw(w, gradients, rate, b1, b2, eps, decay, l2, warmup, constant, final, nesterov):
    m = v = 0.0
    for t, g in enumerate(gradients):
        g = g + l2 * w
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        a = rate * factor_of(t, warmup, constant, final)
        a *= np.sqrt(1 - b2 ** (t + 1)) / (1 - b1 ** (t + 1))
        n = b1 * m + (1 - b1) * g if nesterov else m
        w = w - a * (n / (np.sqrt(v) + eps) + decay * w)
    return w


ADAM = dict(b1=0.8, b2=0.95, eps=0.01)
PENALTIES = dict(l1=0.02, l2=0.03, linear_decay=8e-5, exponential_decay=1e-4)
DECAYS = dict(weight_decay=0.05, l2=0.02)
TIMES = dict(warmup_fraction=0.2, constant_fraction=0.4, final_fraction=0.1)


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("taskset_adam", ADAM | PENALTIES, (adam8p, (*ADAM.values(), *PENALTIES.values()))),
        *(
            (
                "nadamw_optlist",
                ADAM | DECAYS | TIMES | {"nesterov": nesterov},
                (nadamw, (*ADAM.values(), *DECAYS.values(), *TIMES.values(), nesterov)),
            )
            for nesterov in (True, False)
        ),
        (
            "nadamw_optlist",
            ADAM | {"l2": 0.02, "published_l2": True, "constant_fraction": 0.0},
            (nadamw, (*ADAM.values(), 0.0, -0.02, 0.0, 0.0, 0.0, True)),
        ),
    ],
)
def test_against_numpy(name, fields, expected):
    reference, values = expected
    with jax.enable_x64(True):
        found = golden.run(make(name, STEPS, learning_rate=0.1, **fields), STEPS)
    for leaf, start in golden.PARAMS.items():
        gradients = [np.asarray(golden.GRADIENTS[t % 3][leaf]) for t in range(STEPS)]
        ended = reference(np.asarray(start), gradients, 0.1, *values)
        np.testing.assert_allclose(found[leaf], ended, rtol=1e-6)
