"""Every hand-designed optimizer by name."""

from learned_opt.hand import (
    adagl,
    adalo,
    adam_atan2,
    adamomentum,
    adan,
    adaptive_memory,
    diffgrad,
    distance,
    layerwise,
    loss_sized,
    mars,
    nadam_dozat,
    nsgda,
    optax_adam,
    optax_rules,
    relative_adam,
    sadam,
    sophia,
)
from learned_opt.hand.spec import HandDesigned

MODULES = (
    optax_rules,
    optax_adam,
    adagl,
    adalo,
    adam_atan2,
    adamomentum,
    adan,
    adaptive_memory,
    diffgrad,
    distance,
    layerwise,
    loss_sized,
    mars,
    nadam_dozat,
    nsgda,
    sadam,
    sophia,
    relative_adam,
)
HAND_DESIGNED: dict[str, HandDesigned] = {
    entry.name: entry for module in MODULES for entry in module.ENTRIES
}
