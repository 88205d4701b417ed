"""Parameters by their paths, written as dense/kernel."""

import re
from typing import Any

import jax


def path_of(path: jax.tree_util.KeyPath) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def check_pattern(what: str, pattern: Any) -> str:
    """`pattern` if it is a regular expression. Raises ValueError."""
    try:
        re.compile(pattern)
    except (TypeError, re.error) as error:
        raise ValueError(
            f"{what}: {pattern!r} is not allowed; it must be a regular expression ({error})"
        ) from None
    return str(pattern)
