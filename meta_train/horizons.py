"""How long an inner training run lasts: distributions over its number of steps."""

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray


class Horizons(Protocol):
    """A distribution over the number of steps of a run; `shortest` is its least value."""

    @property
    def shortest(self) -> int: ...

    def sample(self, key: PRNGKeyArray) -> Int[Array, ""]: ...


@dataclass(frozen=True)
class Fixed:
    """Every run takes `steps` steps."""

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: {self.steps} must be at least 1")

    @property
    def shortest(self) -> int:
        return self.steps

    def sample(self, key: PRNGKeyArray) -> Int[Array, ""]:
        del key
        return jnp.asarray(self.steps, jnp.int32)


@dataclass(frozen=True)
class LogUniform:
    """The logarithm of the number of steps is uniform: low <= steps <= high."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high:
            raise ValueError(f"low, high: {self.low}, {self.high} must be 1 <= low <= high")

    @property
    def shortest(self) -> int:
        return self.low

    def sample(self, key: PRNGKeyArray) -> Int[Array, ""]:
        log_steps = jax.random.uniform(
            key, minval=jnp.log(jnp.float32(self.low)), maxval=jnp.log(jnp.float32(self.high))
        )
        return jnp.clip(jnp.round(jnp.exp(log_steps)), self.low, self.high).astype(jnp.int32)


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
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least 1")
        for name in ("pieces_mean", "steps_mean"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name}: {getattr(self, name)} must be above 0")

    @property
    def shortest(self) -> int:
        return self.pieces_min * self.steps_min

    def sample(self, key: PRNGKeyArray) -> Int[Array, ""]:
        pieces_key, steps_key = jax.random.split(key)
        # A draw beyond 12 means has probability 6e-6.
        most = self.pieces_min + int(12 * self.pieces_mean)
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
    "log_uniform": LogUniform,
}
