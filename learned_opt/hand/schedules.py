"""Learning-rate schedules over a run: factors of the rate, by the number of updates made."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_opt.base import Horizon
from learned_opt.naming import check_name

Decay = Callable[[Float[Array, "..."]], Float[Array, "..."]]

# Of the part of the run after the warm-up, from 0 to 1.
DECAYS: dict[str, Decay] = {
    "constant": jnp.ones_like,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + jnp.cos(jnp.pi * progress)),
    "wsd": lambda progress: jnp.minimum(1.0, 5.0 * (1.0 - progress)),
}
SCHEDULES: dict[str, tuple[str, float]] = {  # name -> decay, part of the run that is warm-up
    **{name: (name, 0.0) for name in ("constant", "linear", "cosine")},
    "warmup": ("constant", 0.05),
    "warmup_linear": ("linear", 0.05),
    "warmup_cosine": ("cosine", 0.05),
    "wsd": ("wsd", 0.05),
}


def schedule(
    name: str,
    horizon: Horizon,
    warmup_steps: int | float | Literal["untuned"] | None = None,
    final: float = 0.0,
    b2: float = 0.999,
) -> Callable[[Any], Float[Array, "..."]]:
    """count -> factor of the learning rate: linear warm-up, then a decay to `final` at `horizon`.

    name: one of SCHEDULES; `wsd` keeps the rate up to the last fifth. count: updates made before
    this one. warmup_steps: by default a twentieth of the run for names that warm up; "untuned" is
    2 / (1 - b2) (arXiv:1910.04209). final: at least 0. From `horizon` on the factor stays there.
    """
    check_name("schedule", name, SCHEDULES)
    decay, part = SCHEDULES[name]
    length = jnp.asarray(horizon, jnp.float32)
    warmup = jnp.floor(part * length)
    if warmup_steps == "untuned":
        warmup = jnp.asarray(2.0 / (1.0 - b2))
    elif warmup_steps is not None:
        warmup = jnp.asarray(warmup_steps, jnp.float32)

    def factor(count: Any) -> Float[Array, "..."]:
        step = jnp.asarray(count, jnp.float32)
        progress = jnp.clip((step - warmup) / jnp.maximum(length - warmup, 1.0), 0.0, 1.0)
        decayed = final + (1.0 - final) * DECAYS[decay](progress)
        return jnp.where(step < warmup, (step + 1.0) / jnp.maximum(warmup, 1.0), decayed)

    return factor


def parse(given: str | Mapping[str, Any], horizon: Horizon) -> Callable[[Any], Array] | None:
    """The schedule that a name, or a mapping with `name`, stands for; None where it is constant."""
    fields: dict[str, Any] = {"name": given} if isinstance(given, str) else dict(given)
    if fields == {"name": "constant"}:
        return None
    return schedule(fields.pop("name", "constant"), horizon, **fields)
