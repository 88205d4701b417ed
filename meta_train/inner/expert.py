"""A hand-designed optimizer that leads the inner runs while the learned rule is a beginner."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from learned_opt.naming import check_name
from learned_opt.registry import HAND_DESIGNED
from meta_train.inner.horizons import MetaStep


@dataclass(frozen=True)
class Expert:
    """Mixes an expert's update into the learned one's, less and less (ELO, 2607.06772).

    An update is w expert + (1 - w) learned. w: 1 up to the meta-step `full_until`, then falling in
    a line to 0 at `gone_by`. optimizer: name of a hand-designed one, which sees the same gradients.
    learning_rate: of it, null for its default.
    """

    optimizer: str = "relative_adam"
    learning_rate: float | None = None
    full_until: int = 0
    gone_by: int = 1000

    def __post_init__(self) -> None:
        check_name("optimizer", self.optimizer, HAND_DESIGNED)
        if self.learning_rate is not None and not self.learning_rate > 0.0:
            raise ValueError(f"learning_rate: {self.learning_rate} must be above 0")
        if self.full_until < 0:
            raise ValueError(f"full_until: {self.full_until} must be at least 0")
        if self.gone_by <= self.full_until:
            raise ValueError(f"gone_by: {self.gone_by} must be above full_until, {self.full_until}")

    def weight(self, meta_step: MetaStep) -> Float[Array, ""]:
        """w after that many meta-steps."""
        left = (self.gone_by - meta_step) / (self.gone_by - self.full_until)
        return jnp.clip(left, 0.0, 1.0)

    def opt(self, horizon: Any) -> optax.GradientTransformationExtraArgs:
        """The expert for a run of `horizon` steps."""
        rule = HAND_DESIGNED[self.optimizer]
        rate = rule.learning_rate if self.learning_rate is None else self.learning_rate
        return rule.opt({}, horizon, learning_rate=rate)


def mixed(weight: Float[Array, ""], expert: Any, learned: Any) -> Any:
    """weight * expert + (1 - weight) * learned, leaf by leaf, in the dtypes of `learned`.

    What has no weight may be anything, even NaN.
    """

    def mix(e: Array, r: Array) -> Array:
        led = jnp.where(weight > 0.0, weight * e, 0.0)
        return (led + jnp.where(weight < 1.0, (1.0 - weight) * r, 0.0)).astype(r.dtype)

    return jax.tree.map(mix, expert, learned)
