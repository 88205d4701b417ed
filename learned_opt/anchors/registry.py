"""The anchors by name, as rules and configs choose them."""

from learned_opt.anchors.relative_adam import RelativeAdam
from learned_opt.anchors.relative_soap import RelativeSoap

ANCHORS: dict[str, type] = {"relative_adam": RelativeAdam, "relative_soap": RelativeSoap}
