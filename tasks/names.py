"""Messages for choices that do not exist; every family checks its fields with these."""

import difflib
import re
from collections.abc import Iterable


def check_name(field: str, name: str, allowed: Iterable[str]) -> None:
    """Raises ValueError unless `name` is allowed, naming the nearest and all that are."""
    names = sorted(allowed)
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"{field}: unknown name {name!r}{hint} (allowed: {', '.join(names)})")


def check_label(field: str, name: str) -> None:
    """Raises ValueError unless `name` is of letters, digits, '_' and '-': metrics contain it."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(
            f"{field}: {name!r} is not allowed; it must be of letters, digits, '_' and '-'"
        )


def check_at_least(least: float, **fields: float) -> None:
    """Raises ValueError for the first field below `least`."""
    for field, value in fields.items():
        if not value >= least:
            raise ValueError(f"{field}: {value} is not allowed; it must be at least {least}")


def check_range(field: str, bounds: tuple[float, float]) -> None:
    """Raises ValueError unless 0 < low <= high."""
    low, high = bounds
    if not 0 < low <= high:
        raise ValueError(f"{field}: {bounds} is not allowed; it must be 0 < low <= high")


def check_probability(probability: float) -> None:
    """Raises ValueError unless 0 < probability <= 1."""
    if not 0 < probability <= 1:
        raise ValueError(
            f"probability: {probability} is not allowed; it must be above 0 and at most 1"
        )


def check_fractions(field: str, bounds: tuple[float, float]) -> None:
    """Raises ValueError unless 0 <= low <= high <= 1."""
    low, high = bounds
    if not 0 <= low <= high <= 1:
        raise ValueError(f"{field}: {bounds} is not allowed; it must be 0 <= low <= high <= 1")


def check_divides(field: str, value: int, total: int, what: str) -> None:
    """Raises ValueError unless `value` divides `total`, naming the nearest numbers that do."""
    if total % value:
        divisors = [n for n in range(1, total + 1) if total % n == 0]
        near = sorted(sorted(divisors, key=lambda n: abs(n - value))[:2])
        raise ValueError(
            f"{field}: {value} is not allowed; it must divide {what}, as "
            f"{' and '.join(map(str, near))} {'do' if len(near) > 1 else 'does'}"
        )
