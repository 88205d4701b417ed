"""A learned optimizer of your own in one file: three momenta, mixed by a small network of time.

Run it to meta-train the rule on quadratics for a few seconds. To use it in configs, weight files
and `learned_opt.load`, move the class to learned_opt/ and add one line to LEARNED in
learned_opt/registry.py:  "timed_momentum": TimedMomentum,
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from meta_train import PES, Episodes, GradientLearner, LogLoss, LogUniform
from tasks.families.synthetic import Quadratic

MOMENTA = (0.0, 0.9, 0.99)


@dataclass(frozen=True)
class TimedMomentum:
    """p <- p - exp(a) sum_k w_k m_k: a network reads a and w from the progress of the run."""

    hidden: int = 8

    def init(self, key):
        return {
            "inner": 2 * jax.random.normal(key, (2, self.hidden)),
            "outer": jnp.zeros((self.hidden, 1 + len(MOMENTA))),
        }

    def opt(self, theta, horizon, key=None, learning_rate=None):
        del key  # nothing is random at the start
        rate = 1e-3 if learning_rate is None else learning_rate

        def init(params):
            moments = tuple(jax.tree.map(jnp.zeros_like, params) for _ in MOMENTA)
            return {"count": jnp.zeros((), jnp.int32), "moments": moments}

        def update(grads, state, params=None, **extra):
            del params, extra
            moments = tuple(
                jax.tree.map(lambda m, g, b=b: b * m + (1 - b) * g, moment, grads)
                for b, moment in zip(MOMENTA, state["moments"], strict=True)
            )
            clock = jnp.stack([state["count"] / horizon, jnp.ones(())])
            log_step, *weights = jnp.tanh(clock @ theta["inner"]) @ theta["outer"]
            step = -rate * jnp.exp(log_step)
            updates = jax.tree.map(
                lambda *m: step * sum((w + 1 / 3) * x for w, x in zip(weights, m, strict=True)),
                *moments,
            )
            return updates, {"count": state["count"] + 1, "moments": moments}

        return optax.GradientTransformationExtraArgs(init, update)


def main(meta_steps: int = 200) -> list[float]:
    """The meta-loss of every meta-step."""
    rule = TimedMomentum()
    episodes = Episodes(Quadratic(dim=5), rule, LogUniform(20, 100))
    estimator = PES(episodes, LogLoss(), length=20, std=0.05)
    learner = GradientLearner(rule, (estimator,), (1.0,), 32, optax.adam(0.01))
    data = learner.load()
    state, losses = learner.init(jax.random.key(0), data), []
    for _ in range(meta_steps):
        state, metrics = learner.step(state, data)
        losses.append(float(metrics["meta/loss"]))
    return losses


if __name__ == "__main__":
    losses = main()
    print(f"meta-loss {sum(losses[:20]) / 20:.2f} at first, {sum(losses[-20:]) / 20:.2f} at last")
