"""Problems to optimise: what meta-training draws from and what evaluation judges on."""

from tasks.base import (
    SPLITS as SPLITS,
    MissingData as MissingData,
    Task as Task,
    TaskDistribution as TaskDistribution,
    TaskFamily as TaskFamily,
)
from tasks.registry import FAMILIES as FAMILIES
from tasks.suites import SUITES as SUITES, fingerprint as fingerprint
