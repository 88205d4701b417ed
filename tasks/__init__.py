"""Problems to optimise: what meta-training draws from and what evaluation judges on.

`FAMILIES`, `SUITES` and `fingerprint` bring in every family, and flax with them, when first used.
"""

import importlib
from typing import Any

from tasks.base import (
    SPLITS as SPLITS,
    MissingData as MissingData,
    Task as Task,
    TaskFamily as TaskFamily,
    TaskMix as TaskMix,
)

_LAZY = {"FAMILIES": "tasks.registry", "SUITES": "tasks.suites", "fingerprint": "tasks.suites"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
