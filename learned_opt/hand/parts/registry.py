"""Every part and every kind of weight decay by name."""

from learned_opt.hand.parts import (
    accumulate,
    cautious,
    cautious_decay,
    centralize,
    clip,
    constrained_decay,
    decay,
    gl_fractional,
    guard,
    lookahead,
    mechanize,
    normalize,
    sam,
    schedule_free,
    soft_clip,
    spectral_bound,
    stable_decay,
    trust_ratio,
)
from learned_opt.hand.parts.base import Part

MODULES = (
    sam,
    clip,
    soft_clip,
    normalize,
    centralize,
    gl_fractional,
    cautious,
    trust_ratio,
    spectral_bound,
    mechanize,
    lookahead,
    schedule_free,
    guard,
    accumulate,
)
PARTS: dict[str, Part] = {name: part for module in MODULES for name, part in module.PARTS.items()}
DECAYS: dict[str, Part] = {
    kind: part
    for module in (decay, stable_decay, cautious_decay, constrained_decay)
    for kind, part in module.DECAYS.items()
}
