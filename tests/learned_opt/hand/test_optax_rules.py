"""The rules taken from optax, against published values."""

import golden
import pytest


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("sgd", {"momentum": 0.0}, (0.49, -0.75, -0.2)),
        ("sgd", {"momentum": 0.9}, (0.4297, -0.75351, -0.1415)),
        ("sgd", {"momentum": 0.9, "nesterov": True}, (0.42673, -0.753159, -0.14735)),
        ("adam", {}, (0.30805492, -0.93985814, -0.08759133)),
        ("adamw", {"weight_decay": 0.1}, (0.29606548, -0.91462721, -0.08383263)),
    ],
)
def test_golden(name, fields, expected):
    golden.check(name, expected, **fields)
