"""How long an inner training run lasts: distributions over its number of steps."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

MOST = 2**31 - 1  # steps are counted in 32 bits

MetaStep = Int[Array, ""] | int  # meta-steps made so far, 0 at the first


@runtime_checkable
class Horizons(Protocol):
    """A distribution over the number of steps of a run, which may change over a meta-training.

    `shortest` is the least value at any meta-step.
    """

    @property
    def shortest(self) -> int: ...

    def sample(self, key: PRNGKeyArray, step: MetaStep) -> Int[Array, ""]: ...


@dataclass(frozen=True)
class Fixed:
    """Every run takes `steps` steps."""

    steps: int

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MOST:
            raise ValueError(f"steps: {self.steps} must be between 1 and {MOST}")

    @property
    def shortest(self) -> int:
        return self.steps

    def sample(self, key: PRNGKeyArray, step: MetaStep) -> Int[Array, ""]:
        del key, step
        return jnp.asarray(self.steps, jnp.int32)


@dataclass(frozen=True)
class LogUniform:
    """The logarithm of the number of steps is uniform: low <= steps <= high."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if not 1 <= self.low <= MOST:
            raise ValueError(f"low: {self.low} must be between 1 and {MOST}")
        if not self.low <= self.high <= MOST:
            raise ValueError(f"high: {self.high} must be between low, {self.low}, and {MOST}")

    @property
    def shortest(self) -> int:
        return self.low

    def sample(self, key: PRNGKeyArray, step: MetaStep) -> Int[Array, ""]:
        del step
        return _log_uniform(key, self.low, jnp.log(jnp.float32(self.high)), self.high)


@dataclass(frozen=True)
class Growing:
    """Log-uniform as well, but the longest run grows with the meta-training: a curriculum.

    low: of all runs. The upper end is high_first at the first meta-step, grows by a constant factor
    per meta-step and stays at high_last from meta-step `over` on. A run keeps the number of steps
    it began with.
    """

    low: int
    high_first: int
    high_last: int
    over: int

    def __post_init__(self) -> None:
        if not 1 <= self.low <= MOST:
            raise ValueError(f"low: {self.low} must be between 1 and {MOST}")
        for name in ("high_first", "high_last"):
            value = getattr(self, name)
            if not self.low <= value <= MOST:
                raise ValueError(f"{name}: {value} must be between low, {self.low}, and {MOST}")
        if self.high_last < self.high_first:
            raise ValueError(
                f"high_last: {self.high_last} must be at least high_first, {self.high_first}"
            )
        if self.over < 1:
            raise ValueError(f"over: {self.over} must be at least 1 meta-step")

    @property
    def shortest(self) -> int:
        return self.low

    def sample(self, key: PRNGKeyArray, step: MetaStep) -> Int[Array, ""]:
        done = jnp.minimum(jnp.asarray(step, jnp.float32) / self.over, 1.0)
        first, last = jnp.log(jnp.float32(self.high_first)), jnp.log(jnp.float32(self.high_last))
        return _log_uniform(key, self.low, first + done * (last - first), self.high_last)


def _log_uniform(key: PRNGKeyArray, low: int, log_high: Array, most: int) -> Int[Array, ""]:
    """most: the least whole number that no draw exceeds at any meta-step."""
    log_steps = jax.random.uniform(key, minval=jnp.log(jnp.float32(low)), maxval=log_high)
    return jnp.clip(jnp.round(jnp.exp(log_steps)), low, most).astype(jnp.int32)


@dataclass(frozen=True)
class Exponential:
    """Heavy-tailed: a random number of pieces of random length (1703.04813, released code).

    pieces = round(Exp(mean pieces_mean)) + pieces_min, each of round(Exp(mean steps_mean)) +
    steps_min steps. The defaults are the paper's: median 7,100 steps, 95th percentile 30,000.
    """

    pieces_mean: float = 40.0
    pieces_min: int = 1
    steps_mean: float = 200.0
    steps_min: int = 50

    def __post_init__(self) -> None:
        for name in ("pieces_min", "steps_min"):
            if not 1 <= getattr(self, name) <= MOST:
                raise ValueError(f"{name}: {getattr(self, name)} must be between 1 and {MOST}")
        for name in ("pieces_mean", "steps_mean"):
            if not 0.0 < getattr(self, name) <= MOST:
                raise ValueError(f"{name}: {getattr(self, name)} must be above 0, at most {MOST}")
        # float32 draws from Exp(1) stay below 17.
        longest = self._most_pieces * (self.steps_min + 17 * self.steps_mean)
        if longest > MOST:
            raise ValueError(
                f"steps_mean: {self.steps_mean} with up to {self._most_pieces} pieces allows runs "
                f"of {longest:.3g} steps; the limit is {MOST}"
            )

    @property
    def _most_pieces(self) -> int:
        # A draw beyond 12 means has probability 6e-6.
        return self.pieces_min + int(12 * self.pieces_mean)

    @property
    def shortest(self) -> int:
        return self.pieces_min * self.steps_min

    def sample(self, key: PRNGKeyArray, step: MetaStep) -> Int[Array, ""]:
        del step
        pieces_key, steps_key = jax.random.split(key)
        most = self._most_pieces
        pieces = self.pieces_min + jnp.round(
            self.pieces_mean * jax.random.exponential(pieces_key)
        ).astype(jnp.int32)
        steps = self.steps_min + jnp.round(
            self.steps_mean * jax.random.exponential(steps_key, (most,))
        ).astype(jnp.int32)
        return jnp.sum(jnp.where(jnp.arange(most) < pieces, steps, 0))


HORIZONS: dict[str, type] = {
    "exponential": Exponential,
    "fixed": Fixed,
    "growing": Growing,
    "log_uniform": LogUniform,
}
