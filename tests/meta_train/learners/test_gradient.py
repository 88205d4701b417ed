"""One meta-step: rejection, weighing, one compilation, the same numbers on every backend."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.toys import Descent, NoisyLine, Parabola, by_loss

import learned_opt
from meta_train.estimators import ESTIMATORS, PES, TruncatedBackprop
from meta_train.inner.horizons import Fixed, LogUniform
from meta_train.inner.objectives import MeanLoss
from meta_train.inner.unroll import Episodes
from meta_train.learners.gradient import GradientLearner
from tasks.families.mlp import MLPClassifier


def learner(*estimators, weights=None, **settings):
    weights = weights or (1.0,) * len(estimators)
    settings = {"num_tasks": 4, "meta_optimizer": optax.sgd(0.01), "ema": 0.5} | settings
    return GradientLearner(Descent(), estimators, weights, **settings)


def backprop(start, name="parabola", **fields):
    episodes = Episodes(Parabola(start=start, name=name, **fields), Descent(), Fixed(4))
    return TruncatedBackprop(episodes, MeanLoss(clip=3e38), length=4)


def first_step(one, seed=0):
    data = one.load()
    state = one.init(jax.random.key(seed), data)
    before = float(state.theta["rate"])
    state, metrics = one.step(state, data)
    return before, state, metrics


@pytest.mark.parametrize(
    ("kind", "poison"),
    [("backprop", np.nan), ("backprop", np.inf), ("backprop_es", np.nan), ("pes", np.nan)],
)
def test_a_poisoned_family_touches_nothing(kind, poison):
    bad = Episodes(Parabola(poison=poison, name="bad"), Descent(), Fixed(4))
    one = ESTIMATORS[kind](bad, MeanLoss(), length=4)
    before, state, metrics = first_step(learner(one, meta_optimizer=optax.adam(0.1)))
    assert float(state.theta["rate"]) == before
    assert metrics["tasks/bad/diverged"] == 1.0
    if kind == "backprop":
        assert metrics["tasks/bad/rejected"] == 1.0


@pytest.mark.parametrize("scale", ["unit_norm", "running_rms", "none"])
def test_huge_gradients_leave_everything_finite(scale):
    huge = learner(
        backprop(1.5e19, "huge"),
        backprop(2.0, "sane"),
        family_scale=scale,
        meta_optimizer=optax.adam(0.1),
    )
    before, state, metrics = first_step(huge)
    moved = abs(float(state.theta["rate"]) - before)
    if scale != "none" or not metrics["meta/rejected"]:
        np.testing.assert_allclose(moved, 0.1, rtol=1e-3)
    else:  # Adam's second moment would have overflowed
        assert moved == 0.0
    leaves = jax.tree.leaves((state.theta, state.meta_opt_state))
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_a_meta_update_that_is_not_finite_is_not_made():
    before, state, metrics = first_step(learner(backprop(2.0), meta_optimizer=optax.sgd(np.inf)))
    assert float(state.theta["rate"]) == before and metrics["meta/rejected"] == 1.0


def test_the_meta_optimizer_reads_the_meta_loss_as_both_losses():
    """It is a number even where one family has none."""
    bad = PES(Episodes(Parabola(poison=np.nan, name="bad"), Descent(), Fixed(4)), MeanLoss(), 4)
    reads = optax.chain(optax.sgd(0.01), by_loss())
    before, state, metrics = first_step(learner(backprop(2.0), bad, meta_optimizer=reads))
    loss = float(metrics["meta/loss"])
    assert np.isfinite(loss) and loss > 5.0  # half of it is MeanLoss' clip
    seen = state.meta_opt_state[-1]
    assert float(seen["value"]) == float(seen["eval_value"]) == loss
    np.testing.assert_allclose(
        float(state.theta["rate"]) - before, 0.5 * 0.01 * 3 * loss, rtol=1e-4
    )


def test_the_update_is_the_weighted_mean_of_normalised_families():
    """Two slopes of one sign and norm 1: the step is the meta-rate whatever their sizes."""
    before, state, metrics = first_step(
        learner(backprop(2.0, "small"), backprop(200.0, "large"), weights=(1.0, 3.0))
    )
    np.testing.assert_allclose(float(state.theta["rate"]) - before, 0.01, rtol=1e-4)
    np.testing.assert_allclose(metrics["meta/grad_norm"], 1.0, rtol=1e-5)
    np.testing.assert_allclose(
        metrics["tasks/large/grad_norm"] / metrics["tasks/small/grad_norm"], 1e4, rtol=1e-3
    )
    np.testing.assert_allclose(float(state.theta_average["rate"]) - before, 0.005, rtol=1e-4)


def test_the_average_is_of_the_point_that_the_meta_optimizer_says_to_evaluate():
    """A lookahead's slow weights stay where they are until its second update."""
    slow = learned_opt.make("sgd", learning_rate=0.01, parts=["lookahead"])
    _, state, _ = first_step(learner(backprop(2.0), meta_optimizer=slow, ema=0.0))
    point = learned_opt.eval_params(state.meta_opt_state, state.theta)["rate"]
    assert float(state.theta_average["rate"]) == float(point) != float(state.theta["rate"])


def test_without_normalising_gradients_add_up_as_they_are():
    before, state, metrics = first_step(
        learner(
            backprop(2.0, "one"),
            backprop(4.0, "two"),
            weights=(3.0, 1.0),
            family_scale="none",
        )
    )
    one, two = (float(metrics[f"tasks/{n}/grad_norm"]) for n in ("one", "two"))
    moved = float(state.theta["rate"]) - before
    np.testing.assert_allclose(moved, 0.01 * (3 * one + two) / 4, rtol=1e-4)


def test_steps_compile_once():
    traces = []

    class Counting(NoisyLine):
        def task(self, cfg, data):
            traces.append(1)
            return super().task(cfg, data)

    episodes = Episodes(Counting(), Descent(), LogUniform(4, 9))
    one = learner(PES(episodes, MeanLoss(), length=4), meta_optimizer=optax.adam(1e-3))
    data = one.load()
    state = one.init(jax.random.key(0), data)
    state, _ = one.step(state, data)
    seen = len(traces)
    for _ in range(3):
        state, _ = one.step(state, data)
    assert len(traces) == seen
    assert int(state.step) == 4


def test_families_on_one_dataset_share_its_arrays():
    estimators = [
        TruncatedBackprop(
            Episodes(MLPClassifier(widths=(4,), name=name), Descent(), Fixed(4)),
            MeanLoss(),
            length=4,
        )
        for name in ("one", "two")
    ]
    one, two = learner(*estimators).load()
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert a is b
    assert one["train"]["image"].dtype == jnp.uint8


def test_tasks_must_divide_over_devices():
    from meta_train.parallel import Parallel

    with pytest.raises(ValueError, match="num_tasks: 3 does not divide over 2 devices.*is 4"):
        learner(backprop(2.0), num_tasks=3, parallel=Parallel("vmap", 2))
    with pytest.raises(ValueError, match="parallel.devices: 64"):
        Parallel("pmap", 64)


AGREEMENT = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import jax, optax
jax.config.update("jax_num_cpu_devices", 2)
from helpers.toys import Descent, NoisyLine, by_loss
from learned_opt.learned.small_fc import SmallFC
from meta_train.run.checkpoint import Checkpoints
from meta_train.estimators import PES
from meta_train.inner.horizons import LogUniform
from meta_train.learners.gradient import GradientLearner
from meta_train.inner.objectives import LogLoss
from meta_train.parallel import Parallel
from meta_train.inner.unroll import Episodes
from tasks.families.mlp import MLPClassifier

rule = Descent()
pes = PES(Episodes(NoisyLine(), rule, LogUniform(5, 9)), LogLoss(), length=5)
learned = SmallFC(hidden=2).opt(SmallFC(hidden=2).init(jax.random.key(5)), 10, learning_rate=0.01)
meta_optimizer = optax.chain(learned, by_loss())
checkpoints = Checkpoints(Path(sys.argv[2]), keep=9)
out = {}
KINDS = [("shard_map", 1), ("shard_map", 2), ("pmap", 1), ("pmap", 2), ("vmap", 2)]
for i, (backend, devices) in enumerate(KINDS):
    one = GradientLearner(rule, (pes,), (1.0,), 4, meta_optimizer, 0.9,
                          parallel=Parallel(backend, devices))
    data = one.load()
    state = one.init(jax.random.key(0), data)
    numbers = lambda: [float(x) for leaf in jax.tree.leaves(state.theta) for x in leaf.ravel()]
    state, metrics = one.step(state, data)
    checkpoints.save(i, state)
    state, metrics = one.step(state, data)
    out[f"{backend} {devices}"] = numbers()
    if i:  # the second step again, from where the kind before was after its first
        checkpoints.wait()
        state = one.place(checkpoints.restore(i - 1, state))
        state, metrics = one.step(state, data)
        out[f"{backend} {devices} resumed"] = numbers()
checkpoints.close()
print(json.dumps(out))
"""


def test_backends_and_device_counts_agree_and_go_on_from_one_another(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", AGREEMENT, str(Path(__file__).parents[2]), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    thetas = {name: np.array(x) for name, x in json.loads(done.stdout).items()}
    reference = thetas.pop("shard_map 1")
    assert len(thetas) == 8
    assert np.isfinite(reference).all()
    for name, theta in thetas.items():
        np.testing.assert_allclose(theta, reference, rtol=1e-4, atol=2e-6, err_msg=name)


def test_every_task_and_every_step_has_its_own_randomness():
    episodes = Episodes(NoisyLine(), Descent(), Fixed(4))
    one = learner(PES(episodes, MeanLoss(), length=4))
    data = one.load()
    state = one.init(jax.random.key(0), data)
    shifts = np.asarray(state.est_states[0].inner.cfg["shift"])[0, :, 0]
    assert len(set(shifts.tolist())) == 4
    state, _ = one.step(state, data)
    first = jnp.array(state.est_states[0].noise["rate"])
    state, _ = one.step(state, data)
    second = state.est_states[0].noise["rate"]
    assert (first != second).all()


@dataclass(frozen=True)
class TwoRates:
    """Descent at the sum of two rates, so that theta has two groups."""

    def init(self, key):
        del key
        return {"one": jnp.float32(0.1), "two": jnp.float32(0.2)}

    def opt(self, theta, horizon, key=None, learning_rate=None):
        del horizon, key, learning_rate
        return optax.with_extra_args_support(optax.sgd(theta["one"] + theta["two"]))


@pytest.mark.parametrize("kind", ["backprop", "pes"])
def test_what_is_not_trained_stays_whatever_the_meta_optimizer_does(kind):
    episodes = Episodes(Parabola(), TwoRates(), Fixed(4))
    fields = {"only": ("two",)} if kind == "pes" else {}
    one = GradientLearner(
        TwoRates(),
        (ESTIMATORS[kind](episodes, MeanLoss(), length=4, **fields),),
        (1.0,),
        num_tasks=1,
        meta_optimizer=optax.adamw(0.1, weight_decay=0.5),
        only=("two",),
    )
    data = one.load()
    state, metrics = one.step(one.init(jax.random.key(0), data), data)
    assert state.theta["one"] == jnp.float32(0.1) and state.theta["two"] != jnp.float32(0.2)
    np.testing.assert_allclose(metrics["meta/grad_norm"], 1.0, rtol=1e-6)
    with pytest.raises(ValueError, match="only: unknown name 'tow'; did you mean two"):
        replace(one, only=("tow",))
