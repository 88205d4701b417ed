"""Every part by name."""

from learned_opt.hand.parts import clip, decay, gl_fractional, guard
from learned_opt.hand.parts.base import Part

PARTS: dict[str, Part] = {
    name: part
    for module in (clip, decay, gl_fractional, guard)
    for name, part in module.PARTS.items()
}
DECAYS: dict[str, Part] = {name: part for name, part in PARTS.items() if part.decay}
