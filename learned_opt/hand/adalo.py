"""AdaLo: momentum whose learning rate is an average of the loss."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from learned_opt.base import Params
from learned_opt.hand.assemble import Whole
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.spec import HandDesigned
from learned_opt.naming import check_name

MODES = ("paper", "adversarial", "compliant")
LEAST_RATE = 1e-8


class AdaLoState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    loss: Float[Array, ""]  # average of the loss, or of what the mode makes of it
    first: Float[Array, ""]  # the loss at the first update
    mu: Params  # average of gradients, without bias correction


def adalo(
    learning_rate: Scalar | Callable[[Any], Any] = 1.0,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    kappa: Scalar = 3.0,
    weight_decay: Scalar = 0.01,
    mode: Literal["paper", "adversarial", "compliant"] = "paper",
    debias: bool = False,
    relative: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """w <- w - learning_rate a (m + weight_decay w), a = max(e / kappa, 1e-8).

    e averages the loss with b2 ("paper") or q = 1 / (2 + loss) ("adversarial"), or is 1 less the
    latter average ("compliant"); a negative loss counts as 0. So a falls with the loss, except for
    "adversarial", where it rises, up to 1 / (2 kappa); "compliant" starts at 1 / kappa whatever the
    loss is and stays above half of that. learning_rate: a number, or a function of the count of
    updates. debias: corrects the average of the start at 0, which otherwise is a warm-up (or with
    "compliant" a decay) over 1 / (1 - b2) updates. relative: kappa is in units of the first loss;
    0.25 is usual.

    `update` needs params and value=, the loss; one that is not finite leaves the average as it is.
    The paper is not public in full: this is what published code makes of it.
    """
    check_name("mode", mode, MODES)

    def init(params: Params) -> AdaLoState:
        # Made one by one: a state whose leaves share buffers could not be donated.
        loss, first = jnp.zeros(()), jnp.zeros(())
        return AdaLoState(jnp.zeros((), jnp.int32), loss, first, optax.tree.zeros_like(params))

    def update(updates, state, params=None, *, value=None, **extra):
        del extra
        count = state.count + 1
        seen = jnp.maximum(jnp.asarray(value, state.loss.dtype), 0.0)
        first = jnp.where(state.count == 0, seen, state.first)
        term = seen if mode == "paper" else 1.0 / (2.0 + seen)
        loss = jnp.where(jnp.isfinite(seen), b2 * state.loss + (1 - b2) * term, state.loss)
        average = loss / (1 - b2**count) if debias else loss
        average = 1.0 - average if mode == "compliant" else average
        unit = jnp.where(relative & (first > 0), kappa * first, kappa)
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        rate = rate * jnp.maximum(average / unit, LEAST_RATE)
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        moved = jax.tree.map(
            lambda m, p: jnp.asarray(-rate * (m + weight_decay * p), m.dtype), mu, params
        )
        return moved, AdaLoState(count, loss, first, mu)

    return optax.GradientTransformationExtraArgs(init, update)


ENTRIES = (
    HandDesigned(
        "adalo",
        Whole(adalo),
        1.0,
        source="Information Sciences 690:121607 (2025)",
        formula="a = max(EMA(loss; b2) / kappa, 1e-8); w <- w - rate * a * (m + weight_decay * w)",
        needs=("params", "value"),
        ranges=(
            ("learning_rate", Hyperparameter("log", 1e-2, 1e2, open=True)),
            ("kappa", Hyperparameter("log", 0.03, 30.0, open=True)),
        ),
    ),
)
