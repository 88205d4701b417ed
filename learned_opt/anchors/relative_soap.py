"""Adam in the eigenbasis of the gradient's products, sized relative to each tensor."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_opt.anchors.base import B1, EPS, Momenta, Plan, Scalar, averaged
from learned_opt.anchors.rotation import Matrices, Method, Rotation, above_rounding, refreshed
from learned_opt.checks import check_at_least_one

WARMUP_FRACTION = 0.03
RATE_POWER = 0.6
REFERENCE_LENGTH = 1000.0  # where the rate counts as given
LARGEST_GAIN = 3.0
SIZE_GAIN, SIZE_POWER = 28.0, 0.25  # of the whole tree: larger networks bear smaller steps
ANYTIME_RATE = 0.3
ANYTIME_WARMUP = 30.0


class RelativeSoapState(NamedTuple):
    """Of one tensor."""

    mu: tuple[Float[Array, "*s"], ...]  # averages of gradients, one for each momentum
    nu: Float[Array, "*s"]  # average of their squares in the rotated coordinates
    factors: Matrices  # average of products, for each rotated axis
    bases: Matrices  # eigenvectors of them in columns


@dataclass(frozen=True)
class RelativeSoap:
    """The anchor `relative_soap`.

    weight_decay: in units of the anchor's own step; of tensors of rank 2 and more. cautious: only
    entries that the direction shrinks too decay. b2, b3: decays of the averages of squared
    gradients and of their products. update_interval: updates between two refreshes of the basis.
    max_dim: the largest block that rotates; longer axes are cut into equal blocks. one_side:
    rotates the shorter axis of each tensor only. spread: one tensor after the other is refreshed,
    so that no update costs much more than the others. method: "qr", or "jacobi", by matrix products
    only.
    """

    weight_decay: Scalar = 0.1
    cautious: bool = True
    b2: Scalar = 0.95
    b3: Scalar = 0.95
    update_interval: int = 5
    max_dim: int = 64
    one_side: bool = False
    spread: bool = False
    method: Method = "qr"

    def __post_init__(self) -> None:
        check_at_least_one(self, "update_interval", "max_dim")

    def momenta(self) -> Momenta:
        """The slower one forgets an outlier before the squares that it is divided by do.

        A decay above the root of b2 would let what is left of an outlier grow without bound.
        """
        return B1, min(0.97, 0.9955 * self.b2**0.5)

    @property
    def rotation(self) -> Rotation:
        return Rotation(self.max_dim, self.one_side)

    def init(self, shape: tuple[int, ...], momenta: Momenta) -> RelativeSoapState:
        # Each array is made anew: a state whose leaves share buffers could not be donated.
        return RelativeSoapState(
            tuple(jnp.zeros(shape) for _ in momenta),
            jnp.zeros(shape),
            tuple(jnp.zeros_like(basis) for basis in self.rotation.identity(shape)),
            self.rotation.identity(shape),
        )

    def step(
        self,
        states: Sequence[RelativeSoapState],
        gradients: Sequence[Array],
        count: Int[Array, ""],
        momenta: Momenta,
    ) -> tuple[list[RelativeSoapState], list[list[Array]]]:
        seen = [self._with_products(*pair) for pair in zip(states, gradients, strict=True)]
        factors, bases = [state.factors for state in seen], [state.bases for state in seen]
        bases = refreshed(factors, bases, count == 1, self._due(bases, count), self.method)
        found = [
            self._turned(state._replace(bases=basis), gradient, count, momenta)
            for state, basis, gradient in zip(seen, bases, gradients, strict=True)
        ]
        return [state for state, _ in found], [directions for _, directions in found]

    def _due(self, bases: Sequence[Matrices], count: Int[Array, ""]) -> Any:
        if not self.spread:
            return count % self.update_interval == 0
        turn = itertools.accumulate((len(matrices) > 0 for matrices in bases), initial=0)
        return [(count - i) % self.update_interval == 0 for i, _ in zip(turn, bases, strict=False)]

    def _with_products(
        self, state: RelativeSoapState, gradient: Float[Array, "*s"]
    ) -> RelativeSoapState:
        products = self.rotation.products(gradient)
        pairs = zip(state.factors, products, strict=True)
        factors = tuple(self.b3 * old + (1.0 - self.b3) * new for old, new in pairs)
        return state._replace(factors=factors)

    def _turned(
        self,
        state: RelativeSoapState,
        gradient: Float[Array, "*s"],
        count: Int[Array, ""],
        momenta: Momenta,
    ) -> tuple[RelativeSoapState, list[Array]]:
        """Moments and directions in a basis that the gradient has been part of."""
        mu = averaged(state.mu, momenta, gradient)
        rotated = self.rotation.into(state.bases, gradient)
        nu = self.b2 * state.nu + (1.0 - self.b2) * jnp.square(rotated)
        inverse = _inverse_root(nu / (1.0 - self.b2**count), bool(state.bases))
        directions = [
            self.rotation.into(state.bases, m) / (1.0 - b**count) * inverse
            for m, b in zip(mu, momenta, strict=True)
        ]
        return state._replace(mu=mu, nu=nu), [*directions, rotated * inverse]

    def back(self, state: RelativeSoapState, direction: Float[Array, "*s"]) -> Float[Array, "*s"]:
        """Entries that no gradient has come to stay: a rotation would mix others into them."""
        turned = self.rotation.back(state.bases, direction)
        return jnp.where(state.mu[0] == 0.0, 0.0, turned) if state.bases else turned

    def pace(self, plan: Plan, count: Int[Array, ""]) -> Float[Array, ""]:
        steps = jnp.asarray(count, jnp.float32)
        bearable = SIZE_GAIN * max(plan.num_params, 1) ** -SIZE_POWER
        if plan.horizon is None:
            gain = ANYTIME_RATE * (REFERENCE_LENGTH / (steps + ANYTIME_WARMUP)) ** RATE_POWER
            return jnp.minimum(gain, bearable) * jnp.minimum(1.0, steps / ANYTIME_WARMUP)
        horizon = jnp.asarray(plan.horizon, jnp.float32)
        gain = (REFERENCE_LENGTH / horizon) ** RATE_POWER
        steps = jnp.minimum(steps, horizon)
        warmup = jnp.maximum(1.0, jnp.floor(WARMUP_FRACTION * horizon))
        left = 1.0 - (steps - 1.0) / horizon
        gain = jnp.minimum(gain, min(LARGEST_GAIN, bearable))
        return gain * jnp.minimum(1.0, steps / warmup) * jnp.square(left)


def _inverse_root(square: Float[Array, "*s"], is_rotated: bool) -> Float[Array, "*s"]:
    """1 / (sqrt(v) + 1e-12), and 0 where a rotation leaves rounding only."""
    known = square > 0.0
    if is_rotated:
        known = known & above_rounding(square)
    return jnp.where(known, 1.0 / (jnp.sqrt(jnp.where(known, square, 1.0)) + EPS), 0.0)
