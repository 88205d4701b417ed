"""Gradient estimators by name."""

from meta_train.estimators.backprop import TruncatedBackprop
from meta_train.estimators.pes import PES

ESTIMATORS: dict[str, type] = {
    "backprop": TruncatedBackprop,
    "pes": PES,
}
