"""Every hand-designed optimizer by name."""

from learned_opt.hand import (
    adagl,
    adalo,
    adam_atan2,
    adamomentum,
    adan,
    adaptive_memory,
    diffgrad,
    mars,
    nadam_dozat,
    nsgda,
    optax_rules,
    relative_adam,
    sadam,
    sophia,
)
from learned_opt.hand.spec import HandDesigned

MODULES = (
    optax_rules,
    adam_atan2,
    adan,
    adagl,
    adalo,
    adamomentum,
    diffgrad,
    nadam_dozat,
    nsgda,
    sadam,
    adaptive_memory,
    mars,
    sophia,
    relative_adam,
)
HAND_DESIGNED: dict[str, HandDesigned] = {
    entry.name: entry for module in MODULES for entry in module.ENTRIES
}
