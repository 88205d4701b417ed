"""Learning-rate schedules over a run: factors of the rate, by the number of updates made."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_opt.base import Horizon
from learned_opt.hand.hyperparameters import Hyperparameter, check_hyperparameters
from learned_opt.naming import check_name

Shape = Callable[[Float[Array, "..."]], Float[Array, "..."]]

# Of the part of the run after the warm-up, from 0 to 1.
DECAYS: dict[str, Shape] = {
    "constant": jnp.ones_like,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + jnp.cos(jnp.pi * progress)),
    "exponential": lambda progress: 0.01**progress,
    "wsd": lambda progress: jnp.minimum(1.0, 5.0 * (1.0 - progress)),
}
# Of updates, this one included, over the warm-up's length.
WARMUPS: dict[str, Shape] = {
    "linear": lambda part: jnp.minimum(1.0, part),
    "quadratic": lambda part: jnp.minimum(1.0, jnp.square(part)),
    "exponential": lambda part: -jnp.expm1(-2.0 * part),
}
SCHEDULES: dict[str, tuple[str, float]] = {  # name -> decay, part of the run that is warm-up
    **{name: (name, 0.0) for name in ("constant", "linear", "cosine", "exponential")},
    "warmup": ("constant", 0.05),
    "warmup_linear": ("linear", 0.05),
    "warmup_cosine": ("cosine", 0.05),
    "warmup_exponential": ("exponential", 0.05),
    "wsd": ("wsd", 0.05),
}
_BOUNDS = {
    "warmup_steps": Hyperparameter("log", 1.0, 1e4),
    "final": Hyperparameter("linear", 0.0, 1.0),
    "b2": Hyperparameter("one_minus", 0.7, 1 - 1e-5, most=1.0),
}


def schedule(
    name: str,
    horizon: Horizon,
    warmup_steps: int | float | Literal["untuned"] | None = None,
    final: float = 0.0,
    b2: float = 0.999,
    warmup: str = "linear",
) -> Callable[[Any], Float[Array, "..."]]:
    """count -> factor of the learning rate: a warm-up, then a decay to `final` at `horizon`.

    name: one of SCHEDULES; `wsd` keeps the rate up to the last fifth, `exponential` falls by a
    factor of 100. count: updates made before this one. warmup_steps: by default a twentieth of the
    run for names that warm up; "untuned" is 2 / (1 - b2) (arXiv:1910.04209). warmup: its shape, one
    of WARMUPS; `exponential`, 1 - exp(-2 t / warmup_steps), has the untuned form of that paper and
    goes on after warmup_steps. final: at least 0. From `horizon` on the factor stays there.
    """
    check_name("schedule", name, SCHEDULES)
    check_name("schedule.warmup", warmup, WARMUPS)
    decay, part = SCHEDULES[name]
    length = jnp.asarray(horizon, jnp.float32)
    steps = jnp.floor(part * length)
    if warmup_steps == "untuned":
        steps = jnp.asarray(2.0 / (1.0 - b2))
    elif warmup_steps is not None:
        steps = jnp.asarray(warmup_steps, jnp.float32)

    def factor(count: Any) -> Float[Array, "..."]:
        step = jnp.asarray(count, jnp.float32)
        progress = jnp.clip((step - steps) / jnp.maximum(length - steps, 1.0), 0.0, 1.0)
        decayed = final + (1.0 - final) * DECAYS[decay](progress)
        warmed = WARMUPS[warmup]((step + 1.0) / jnp.maximum(steps, 1.0))
        return jnp.where(steps > 0.0, warmed, 1.0) * decayed

    return factor


def parse(given: str | Mapping[str, Any], horizon: Horizon) -> Callable[[Any], Array] | None:
    """The schedule that a name, or a mapping with `name`, stands for; None where it is constant.

    Raises ValueError for what is not known or out of bounds.
    """
    fields: dict[str, Any] = {"name": given} if isinstance(given, str) else dict(given)
    if fields == {"name": "constant"}:
        return None
    accepted = {**inspect.signature(schedule).parameters}
    del accepted["horizon"]
    numbers = {k: v for k, v in fields.items() if not (k == "warmup_steps" and v == "untuned")}
    check_hyperparameters("schedule", numbers, accepted, _BOUNDS)
    return schedule(fields.pop("name", "constant"), horizon, **fields)
