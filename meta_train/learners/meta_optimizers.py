"""What turns the meta-gradient into an update of theta: clipping, an optax rule, a schedule."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import optax

from learned_opt import io
from learned_opt.naming import check_name
from learned_opt.use import load

SCHEDULES = ("constant", "cosine", "linear")


def _check_above_zero(block: "MetaOptimizer", *names: str) -> None:
    for name in names:
        value = getattr(block, name)
        if value is not None and not value > 0.0:
            raise ValueError(f"{name}: {value} must be above 0")


@dataclass(frozen=True)
class MetaOptimizer(ABC):
    """What all meta-optimizers share.

    clip: every entry of the gradient is cut to [-clip, clip]; clip_norm: then its norm to
    clip_norm; None leaves them out.
    """

    clip: float | None = None
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        _check_above_zero(self, "clip", "clip_norm")

    @abstractmethod
    def rule(self, steps: int) -> optax.GradientTransformation:
        """What follows the clipping, in a run of `steps` meta-steps."""
        ...

    def transformation(self, steps: int) -> optax.GradientTransformation:
        """The optax transformation for a run of `steps` meta-steps; its update takes value=."""
        chain = [] if self.clip is None else [optax.clip(self.clip)]
        if self.clip_norm is not None:
            chain.append(optax.clip_by_global_norm(self.clip_norm))
        return optax.chain(*chain, self.rule(steps))


@dataclass(frozen=True)
class Scheduled(MetaOptimizer):
    """A hand-designed meta-optimizer.

    learning_rate: the highest one. schedule: "cosine" and "linear" fall from it to its share
    `final` at the last meta-step. warmup_steps: meta-steps in which it rises from 0. clip,
    clip_norm: as in MetaOptimizer.
    """

    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    warmup_steps: int = 0
    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("schedule", self.schedule, SCHEDULES)
        _check_above_zero(self, "learning_rate")
        if not 0.0 <= self.final <= 1.0:
            raise ValueError(f"final: {self.final} is not allowed; it must be 0 .. 1")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps: {self.warmup_steps} must be at least 0")

    @abstractmethod
    def scheduled(self, learning_rate: optax.Schedule) -> optax.GradientTransformation: ...

    def rule(self, steps: int) -> optax.GradientTransformation:
        return self.scheduled(self._schedule(steps))

    def _schedule(self, steps: int) -> optax.Schedule:
        after, rate = max(steps - self.warmup_steps, 1), self.learning_rate
        main = {
            "constant": optax.constant_schedule(rate),
            "cosine": optax.cosine_decay_schedule(rate, after, self.final),
            "linear": optax.linear_schedule(rate, self.final * rate, after),
        }[self.schedule]
        if not self.warmup_steps:
            return main
        # Step 0 already moves: the rise goes from 1 / warmup_steps of the rate to all of it.
        rise = optax.linear_schedule(
            self.learning_rate / self.warmup_steps, self.learning_rate, self.warmup_steps - 1
        )
        return optax.join_schedules([rise, main], [self.warmup_steps])


@dataclass(frozen=True)
class Adam(Scheduled):
    """optax.adam."""

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def scheduled(self, learning_rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.adam(learning_rate, self.b1, self.b2, self.eps)


@dataclass(frozen=True)
class AdamW(Scheduled):
    """optax.adamw; the decay is relative to the learning rate."""

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 1e-4

    def scheduled(self, learning_rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.adamw(
            learning_rate, self.b1, self.b2, self.eps, weight_decay=self.weight_decay
        )


@dataclass(frozen=True)
class RMSProp(Scheduled):
    """optax.rmsprop; 1703.04813 had eps 1e-20 inside the root and initial_scale 1."""

    decay: float = 0.9
    eps: float = 1e-8
    initial_scale: float = 0.0
    eps_in_sqrt: bool = True
    momentum: float | None = None

    def scheduled(self, learning_rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.rmsprop(
            learning_rate,
            self.decay,
            self.eps,
            self.initial_scale,
            eps_in_sqrt=self.eps_in_sqrt,
            momentum=self.momentum,
        )


@dataclass(frozen=True)
class SGD(Scheduled):
    """optax.sgd."""

    momentum: float | None = 0.9

    def scheduled(self, learning_rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.sgd(learning_rate, self.momentum)


@dataclass(frozen=True)
class Learned(MetaOptimizer):
    """A learned optimizer as the meta-optimizer (2009.11243, which wants clip 0.1).

    name: packaged weights, a weight file or a run folder; they stay as they are. learning_rate:
    replaces the rule's starting rate where it has one, null for its own. The rule plans for the
    meta-steps of the run and reads the meta-loss as its training and its validation loss.
    """

    name: str = field(kw_only=True)
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_above_zero(self, "learning_rate")
        try:
            io.card(self.name)
        except io.WeightsError as error:
            raise ValueError(f"name: {error}") from None

    def rule(self, steps: int) -> optax.GradientTransformation:
        """Raises ValueError where the file of the weights is damaged."""
        try:
            return load(self.name, steps, self.learning_rate)
        except io.WeightsError as error:
            raise ValueError(f"meta_optimizer.name: {error}") from None


META_OPTIMIZERS: dict[str, type[MetaOptimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "learned": Learned,
    "rmsprop": RMSProp,
    "sgd": SGD,
}
