"""A gradient estimator of your own in one file: central differences over whole runs.

Run it to see its estimate next to the derivative. To use it in configs, move the class to
meta_train/estimators/ and add one line to ESTIMATORS in its __init__.py:
"central_differences": CentralDifferences,
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from learned_opt.registry import HAND_DESIGNED
from meta_train.estimators import FullBackprop
from meta_train.estimators.base import check, describe
from meta_train.inner.horizons import Fixed
from meta_train.inner.objectives import LogLoss, Objective
from meta_train.inner.unroll import Episodes, start, unroll
from tasks.families.synthetic import Quadratic


@dataclass(frozen=True)
class CentralDifferences:
    """Two runs for each weight of theta, moved by +-`std`: exact but for the curvature.

    For rules of a few weights, such as hand-designed ones; every run is started afresh.
    """

    episodes: Episodes
    objective: Objective
    length: int = 100
    std: float = 0.01

    def __post_init__(self):
        check(self)
        if self.episodes.horizons != Fixed(self.length):
            raise ValueError(f"horizon: central differences take whole runs: fixed, {self.length}")

    @property
    def inner_steps(self):
        theta = jax.eval_shape(self.episodes.optimizer.init, jax.random.key(0))
        return 2 * self.length * sum(leaf.size for leaf in jax.tree.leaves(theta))

    def init(self, theta, data, key, step):
        del theta, data, key, step
        return jnp.zeros((), jnp.int32)  # runs made; a state holds at least one array

    def estimate(self, theta, data, state, key, step):
        start_key, run_key = jax.random.split(key)
        flat, unflatten = ravel_pytree(theta)

        def run(move):
            moved = unflatten(flat + move)
            inner = start(self.episodes, data, moved, start_key, step)
            _, trajectory = unroll(self.episodes, data, moved, inner, run_key, step, self.length)
            return jnp.mean(self.objective(trajectory)), trajectory

        moves = self.std * jnp.eye(flat.size)
        value, trajectory = jax.vmap(run)(jnp.concatenate([moves, -moves]))
        slope = (value[: flat.size] - value[flat.size :]) / (2 * self.std)
        return unflatten(slope), state + 1, describe(self.objective, trajectory)


def main(draws: int = 500) -> tuple[float, float]:
    """d objective / d log learning rate of Adam on quadratics: estimated, and by backprop."""
    adam = HAND_DESIGNED["adam"]
    episodes, objective = Episodes(Quadratic(dim=5), adam, Fixed(20)), LogLoss()
    theta = adam.init(jax.random.key(0))
    means = []
    for estimator in (
        CentralDifferences(episodes, objective, 20),
        FullBackprop(episodes, objective),
    ):

        def estimate(key, estimator=estimator):
            state = estimator.init(theta, (), key, 0)
            return estimator.estimate(theta, (), state, key, 0)[0]["log_learning_rate"]

        keys = jax.random.split(jax.random.key(1), draws)
        means.append(float(jnp.mean(jax.jit(jax.vmap(estimate))(keys))))
    return means[0], means[1]


if __name__ == "__main__":
    print("slope by differences {:.4f}, by backprop {:.4f}".format(*main()))
