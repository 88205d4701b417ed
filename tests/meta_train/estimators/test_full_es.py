"""Whole runs of one length for all tasks, in one program whatever the length is."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from helpers.particles import estimate
from helpers.toys import Descent, NoisyLine, Parabola, parabola

from meta_train.estimators import FullES
from meta_train.inner.horizons import LogUniform
from meta_train.inner.objectives import FinalLoss, MeanLoss
from meta_train.inner.unroll import Episodes


@dataclass(frozen=True)
class LiftedElsewhere(Parabola):
    """A parabola whose loss is higher by 3 on every split but `train`."""

    def task(self, cfg, data):
        task = super().task(cfg, data)
        batch = lambda key, split: jnp.float32(0.0 if split == "train" else 3.0)
        loss = lambda params, key, batch: task.loss(params, key, ()) + batch
        return task._replace(batch=batch, loss=loss)


THETA = {"rate": jnp.float32(0.1)}


def begun(keys):
    return jnp.zeros(keys.shape, jnp.int32)


def test_all_tasks_take_one_number_of_steps_a_multiple_of_the_window():
    estimator = FullES(Episodes(NoisyLine(), Descent(), LogUniform(4, 40)), MeanLoss(), length=4)
    traces, horizons = [], []

    @jax.jit
    def run(keys):
        traces.append(1)
        _, _, metrics = estimate(estimator, THETA, NoisyLine().load(), begun(keys), keys)
        return metrics["horizon"]

    for seed in range(8):
        found = np.asarray(run(jax.random.split(jax.random.key(seed), (2, 2))))
        assert np.unique(found).size == 1
        horizons.append(int(found[0, 0]))
    assert len(traces) == 1 and len(set(horizons)) > 2
    assert all(steps % 4 == 0 and 4 <= steps <= 40 for steps in horizons)
    # The mean of a log-uniform number, and half a window that rounding up adds.
    np.testing.assert_allclose(estimator.inner_steps, 2 * (36 / np.log(10) + 1.5), rtol=0.05)


def test_the_end_of_a_run_can_be_measured_anew():
    """After 8 steps the parabola is at START (1 - rate)^8, which FinalLoss sees a step early."""
    keys, at = jax.random.split(jax.random.key(0), (1, 3)), {}
    for batches in (0, 2):
        estimator = FullES(
            parabola(LogUniform(8, 8)), FinalLoss(), length=4, std=1e-3, final_batches=batches
        )
        run = lambda keys, e=estimator: estimate(e, THETA, (), begun(keys), keys)
        gradient, _, metrics = jax.jit(run)(keys)
        at[batches] = np.ravel(metrics["objective"])
        assert np.isfinite(gradient["rate"]).all() and np.ptp(gradient["rate"]) > 0.0
    np.testing.assert_allclose(at[2], 2.0 * 0.9**16, rtol=1e-2)
    np.testing.assert_allclose(8 * at[0], 2.0 * 0.9**14, rtol=1e-2)


def test_the_end_of_a_run_counts_on_every_split_that_is_named():
    keys, at = jax.random.split(jax.random.key(0), (1, 3)), {}
    episodes = Episodes(LiftedElsewhere(), Descent(), LogUniform(8, 8))
    for splits in ((), ("outer_valid",), ("train", "outer_valid")):
        estimator = FullES(
            episodes, FinalLoss(), length=4, std=1e-3, final_batches=1, final_splits=splits
        )
        at[splits] = float(estimate(estimator, THETA, (), begun(keys), keys)[2]["objective"][0, 0])
    np.testing.assert_allclose(at["outer_valid",], at[()] + 3.0, rtol=1e-5)
    np.testing.assert_allclose(at["train", "outer_valid"], at[()] + 1.5, rtol=1e-5)
