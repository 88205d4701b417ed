"""Every part and every kind of weight decay by name."""

from learned_opt.hand.parts import (
    cautious,
    cautious_decay,
    clip,
    constrained_decay,
    decay,
    gl_fractional,
    guard,
    spectral_bound,
    stable_decay,
    trust_ratio,
)
from learned_opt.hand.parts.base import Part

PARTS: dict[str, Part] = {
    name: part
    for module in (clip, gl_fractional, cautious, trust_ratio, spectral_bound, guard)
    for name, part in module.PARTS.items()
}
DECAYS: dict[str, Part] = {
    kind: part
    for module in (decay, stable_decay, cautious_decay, constrained_decay)
    for kind, part in module.DECAYS.items()
}
