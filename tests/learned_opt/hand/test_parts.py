"""The parts around a direction, against published values and closed forms."""

import golden
import pytest

CAUTIOUS = [  # published with eps added before the bias correction of v
    ("paper", (0.31490577, -0.90062199, -0.13546097)),
    ("mean", (0.28365731, -0.93240134, -0.10953212)),
]


@pytest.mark.parametrize(("form", "expected"), CAUTIOUS)
def test_golden_of_cautious_adamw(form, expected):
    parts = [{"name": "cautious", "form": form}]
    golden.check("adamw", expected, 1e-5, weight_decay=0.1, parts=parts)


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        (
            "sgd",
            {"momentum": 0.0, "parts": ["trust_ratio"]},
            (0.49207314, -0.74654571, -0.21830061),
        ),
        (
            "adam",
            {"weight_decay": 0.1, "eps": 1e-6, "parts": ["trust_ratio"]},
            (0.17269204, -0.98459376, -0.18174179),
        ),
        (
            "adam",
            {"parts": [{"name": "spectral_bound", "iterations": 40}]},
            (0.47002669, -0.77825801, -0.08759133),
        ),
    ],
)
def test_golden(name, fields, expected):
    golden.check(name, expected, **fields)
