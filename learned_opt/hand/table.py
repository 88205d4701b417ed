"""Every hand-designed optimizer by name."""

from learned_opt.hand import (
    adafactor,
    adagl,
    adalo,
    adam_atan2,
    adamomentum,
    adan,
    adaptive_memory,
    dadapt_adamw,
    diffgrad,
    distance,
    layerwise,
    loss_sized,
    mars,
    muon,
    nadam_dozat,
    nsgda,
    optax_adam,
    optax_rules,
    prodigy,
    relative_adam,
    sadam,
    schedule_free,
    sm3,
    sophia,
)
from learned_opt.hand.spec import HandDesigned

MODULES = (
    optax_rules,
    optax_adam,
    adafactor,
    adagl,
    adalo,
    adam_atan2,
    adamomentum,
    adan,
    adaptive_memory,
    dadapt_adamw,
    diffgrad,
    distance,
    layerwise,
    loss_sized,
    mars,
    muon,
    nadam_dozat,
    nsgda,
    prodigy,
    sadam,
    schedule_free,
    sm3,
    sophia,
    relative_adam,
)
HAND_DESIGNED: dict[str, HandDesigned] = {
    entry.name: entry for module in MODULES for entry in module.ENTRIES
}
