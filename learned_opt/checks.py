"""What a rule's static choices must satisfy."""

import math
from typing import Any


def check_at_least_one(rule: Any, *names: str) -> None:
    """Raises ValueError naming the first of these integer fields below 1."""
    for name in names:
        value = getattr(rule, name)
        if value < 1:
            raise ValueError(f"{name}: {value} is not allowed; it must be at least 1")


def check_above_zero(rule: Any, *names: str) -> None:
    """Raises ValueError naming the first of these fields, unless None, that is not above 0."""
    for name in names:
        value = getattr(rule, name)
        if value is not None and not (math.isfinite(value) and value > 0.0):
            raise ValueError(f"{name}: {value} is not allowed; it must be finite and above 0")


def check_not_negative(rule: Any, *names: str) -> None:
    """Raises ValueError naming the first of these fields that is not finite or below 0."""
    for name in names:
        value = getattr(rule, name)
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"{name}: {value} is not allowed; it must be finite, at least 0")
