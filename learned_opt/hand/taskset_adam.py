"""TaskSet's Adam with up to eight hyperparameters: two penalties and two decays of the rate."""

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import Horizon
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.spec import HandDesigned

STEPS = 10_000  # the length of run that the decays are given for
ROOT = 1e-10


def taskset_adam(
    learning_rate: Scalar,
    horizon: Horizon = STEPS,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    l1: Scalar = 0.0,
    l2: Scalar = 0.0,
    linear_decay: Scalar = 0.0,
    exponential_decay: Scalar = 0.0,
) -> optax.GradientTransformation:
    """Adam on loss + l1 |w|_1 + l2 |w|^2, at rate * exp(-e t) * max(1 - l t, 0).

    t is the number of updates made, times 10,000 / horizon; e and l are the two decays, per t.
    """

    def factor(count):
        t = count * STEPS / jnp.asarray(horizon, jnp.float32)
        return jnp.exp(-exponential_decay * t) * jnp.maximum(1.0 - linear_decay * t, 0.0)

    penalise = optax.stateless(
        lambda updates, params: jax.tree.map(
            lambda g, w: g + l1 * jnp.sign(w) + 2.0 * l2 * w, updates, params
        )
    )
    return optax.chain(
        penalise,
        optax.scale_by_adam(b1, b2, eps, ROOT),
        optax.scale_by_schedule(lambda count: -learning_rate * factor(count)),
    )


ENTRIES = (
    HandDesigned(
        "taskset_adam",
        taskset_adam,
        1e-3,
        source="arXiv:2002.11887",
        formula="adam on loss + l1 |w|_1 + l2 |w|^2; rate * exp(-e t) max(1 - l t, 0)",
        needs=("params",),
        ranges=(
            ("l1", Hyperparameter("log", 1e-8, 10.0)),
            ("l2", Hyperparameter("log", 1e-8, 10.0)),
            ("linear_decay", Hyperparameter("log", 1e-7, 1e-4)),
            ("exponential_decay", Hyperparameter("log", 1e-6, 1e-3)),
        ),
    ),
)
