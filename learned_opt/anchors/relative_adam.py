"""Adam's direction, sized relative to each tensor, under a warm-up and a cosine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_opt.anchors.base import B1, EPS, Momenta, Plan, Scalar, averaged
from learned_opt.base import DEFAULT_NUM_STEPS, Horizon

B2 = 0.99
WARMUP_FRACTION = 0.03
FINAL_SCALE = 0.02


class RelativeAdamState(NamedTuple):
    """Of one tensor."""

    mu: tuple[Float[Array, "*s"], ...]  # averages of gradients, one for each momentum
    nu: Float[Array, "*s"]  # average of their squares


@dataclass(frozen=True)
class RelativeAdam:
    """The anchor `relative_adam`; the decay of the average of squares is 0.99.

    weight_decay: in units of the anchor's own step; of tensors of rank 2 and more. cautious: only
    entries that the direction shrinks too decay.
    """

    weight_decay: Scalar = 0.0
    cautious: bool = True

    def momenta(self) -> Momenta:
        return B1, 0.99

    def init(self, shape: tuple[int, ...], momenta: Momenta) -> RelativeAdamState:
        # Each array is made anew: a state whose leaves share buffers could not be donated.
        return RelativeAdamState(tuple(jnp.zeros(shape) for _ in momenta), jnp.zeros(shape))

    def step(
        self,
        states: Sequence[RelativeAdamState],
        gradients: Sequence[Array],
        count: Int[Array, ""],
        momenta: Momenta,
    ) -> tuple[list[RelativeAdamState], list[list[Array]]]:
        found = [_stepped(*pair, count, momenta) for pair in zip(states, gradients, strict=True)]
        return [state for state, _ in found], [directions for _, directions in found]

    def back(self, state: Any, direction: Float[Array, "*s"]) -> Float[Array, "*s"]:
        del state
        return direction

    def pace(self, plan: Plan, count: Int[Array, ""]) -> Float[Array, ""]:
        horizon = DEFAULT_NUM_STEPS if plan.horizon is None else plan.horizon
        return nominal_schedule(count - 1, horizon)


def nominal_schedule(count: Any, horizon: Horizon) -> Float[Array, "..."]:
    """s(t): linear warm-up over W = max(1, floor(0.03 T)) steps, then a cosine from 1 to 0.02.

    count: updates made before this one, from 0. horizon: T, at least 1. From T on it stays at 0.02.
    """
    horizon = jnp.asarray(horizon, jnp.float32)
    count = jnp.asarray(count, jnp.float32)
    warmup = jnp.maximum(1.0, jnp.floor(WARMUP_FRACTION * horizon))
    progress = jnp.clip((count - warmup) / jnp.maximum(horizon - warmup, 1.0), 0.0, 1.0)
    decayed = FINAL_SCALE + (1.0 - FINAL_SCALE) * (1.0 + jnp.cos(jnp.pi * progress)) / 2.0
    scale = jnp.where(count < warmup, (count + 1.0) / warmup, decayed)
    return jnp.where(count >= horizon, FINAL_SCALE, scale)


def _stepped(
    state: RelativeAdamState, gradient: Float[Array, "*s"], count: Int[Array, ""], momenta: Momenta
) -> tuple[RelativeAdamState, list[Array]]:
    mu = averaged(state.mu, momenta, gradient)
    nu = B2 * state.nu + (1.0 - B2) * jnp.square(gradient)
    square = nu / (1.0 - B2**count)
    known = square > 0.0  # elsewhere the root has no derivative
    inverse = 1.0 / (jnp.sqrt(jnp.where(known, square, 1.0)) + EPS)
    unbiased = [m / (1.0 - b**count) for m, b in zip(mu, momenta, strict=True)]
    return RelativeAdamState(mu, nu), [x * inverse for x in (*unbiased, gradient)]
