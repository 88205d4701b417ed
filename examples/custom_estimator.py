"""A gradient estimator of your own in one file: evolution strategies over whole runs.

Run it to see its estimate next to the derivative. To use it in configs, move the class to
meta_train/estimators/ and add one line to ESTIMATORS in its __init__.py:  "full_es": FullES,
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from learned_opt.registry import HAND_DESIGNED
from meta_train.estimators import TruncatedBackprop
from meta_train.estimators.base import check, describe
from meta_train.horizons import Fixed
from meta_train.objectives import LogLoss, Objective
from meta_train.unroll import Episodes, start, unroll
from tasks.families.synthetic import Quadratic


@dataclass(frozen=True)
class FullES:
    """One antithetic pair per task and meta-step; every run is started afresh and seen whole."""

    episodes: Episodes
    objective: Objective
    length: int = 100
    std: float = 0.01

    def __post_init__(self):
        check(self)
        if self.episodes.horizons != Fixed(self.length):
            raise ValueError(
                f"horizon: full_es sees whole runs, so it must be fixed, {self.length}"
            )

    @property
    def inner_steps(self):
        return 2 * self.length

    def init(self, theta, data, key, step):
        del theta, data, key, step
        return ()  # nothing is carried from one meta-step to the next

    def estimate(self, theta, data, state, key, step):
        noise_key, start_key, run_key = jax.random.split(key, 3)
        leaves, treedef = jax.tree.flatten(theta)
        keys = jax.random.split(noise_key, len(leaves))
        noise = treedef.unflatten(
            self.std * jax.random.normal(k, leaf.shape)
            for k, leaf in zip(keys, leaves, strict=True)
        )

        def run(sign):
            moved = jax.tree.map(lambda t, e: t + sign * e, theta, noise)
            inner = start(self.episodes, data, moved, start_key, step)
            _, trajectory = unroll(self.episodes, data, moved, inner, run_key, step, self.length)
            return self.objective(trajectory), trajectory

        value, trajectory = jax.vmap(run)(jnp.array([1.0, -1.0]))
        slope = (value[0].mean() - value[1].mean()) / (2 * self.std**2)
        return jax.tree.map(lambda e: slope * e, noise), state, describe(self.objective, trajectory)


def main(draws: int = 500) -> tuple[float, float]:
    """d objective / d log learning rate of Adam on quadratics: estimated, and by backprop."""
    adam = HAND_DESIGNED["adam"]
    episodes, objective = Episodes(Quadratic(dim=5), adam, Fixed(20)), LogLoss()
    theta = adam.init(jax.random.key(0))
    means = []
    for estimator in (FullES(episodes, objective, 20), TruncatedBackprop(episodes, objective, 20)):

        def estimate(key, estimator=estimator):
            state = estimator.init(theta, (), key, 0)
            return estimator.estimate(theta, (), state, key, 0)[0]["log_learning_rate"]

        keys = jax.random.split(jax.random.key(1), draws)
        means.append(float(jnp.mean(jax.jit(jax.vmap(estimate))(keys))))
    return means[0], means[1]


if __name__ == "__main__":
    print("slope by full ES {:.4f}, by backprop {:.4f}".format(*main()))
