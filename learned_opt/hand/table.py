"""Every hand-designed optimizer by name."""

from learned_opt.hand import optax_rules, relative_adam
from learned_opt.hand.spec import HandDesigned

HAND_DESIGNED: dict[str, HandDesigned] = {
    entry.name: entry for module in (optax_rules, relative_adam) for entry in module.ENTRIES
}
