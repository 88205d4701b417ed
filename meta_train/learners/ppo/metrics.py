"""What is logged of the episodes of a bucket."""

import jax.numpy as jnp

from meta_train.estimators.base import Metrics
from meta_train.learners.ppo.environment import Environment
from meta_train.learners.ppo.reward import LIMIT
from meta_train.learners.ppo.rollout import Episode

PLACES = (0, 25, 50, 75, 100)  # percent of the pauses at which hyperparameters are logged


def describe(environment: Environment, episodes: Episode, cap: float) -> Metrics:
    """Scalars of one bucket; the objective is minus the mean reward. Leading axis: episodes.

    capped: the share at the highest reward, floored: at the lowest; diverged: at the end. A
    hyperparameter is the median over the episodes, in force after 0, 25, ... 100 % of the pauses.
    """
    reward, name = episodes.reward, f"tasks/{environment.name}"
    top = jnp.minimum(jnp.log(cap), LIMIT)
    found = {
        "objective": -jnp.mean(reward),
        "reward_median": jnp.median(reward),
        "capped": jnp.mean((reward >= top - 1e-4).astype(jnp.float32)),
        "floored": jnp.mean((reward <= -LIMIT).astype(jnp.float32)),
        "diverged": jnp.mean(episodes.lost.astype(jnp.float32)),
        "final_loss": jnp.nanmedian(episodes.losses[:, -1]),
    }
    for action, values in episodes.values.items():
        for place in PLACES:
            at = place * (environment.pauses - 1) // 100
            found[f"{action}/{place}"] = jnp.median(values[:, at])
    return {f"{name}/{what}": value for what, value in found.items()}
