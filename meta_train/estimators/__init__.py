"""Gradient estimators by name."""

from meta_train.estimators.backprop import FullBackprop, TruncatedBackprop
from meta_train.estimators.backprop_es import BackpropES
from meta_train.estimators.full_es import FullES
from meta_train.estimators.pes import PES
from meta_train.estimators.pes_backprop import PESBackprop
from meta_train.estimators.truncated_es import TruncatedES

ESTIMATORS: dict[str, type] = {
    "backprop": TruncatedBackprop,
    "backprop_es": BackpropES,
    "es": FullES,
    "full_backprop": FullBackprop,
    "pes": PES,
    "pes_backprop": PESBackprop,
    "truncated_es": TruncatedES,
}
