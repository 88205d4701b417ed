"""What every estimator of the registry must do."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.particles import begin, estimate
from helpers.toys import Descent, NoisyLine, Parabola, parabola

from meta_train import yaml_subset
from meta_train.estimators import ESTIMATORS
from meta_train.estimators.base import describe
from meta_train.inner.horizons import Fixed, LogUniform
from meta_train.inner.objectives import LogLoss, MeanLoss
from meta_train.inner.unroll import Episodes, Trajectory

THETA = {"rate": jnp.float32(0.1)}
STAGGERED = [kind for kind in ESTIMATORS if kind not in ("es", "full_backprop")]


def make(kind, episodes, objective=None, length=4):
    """The estimator with its defaults; full_backprop takes its window from the horizon."""
    fields = {} if kind == "full_backprop" else {"length": length}
    return ESTIMATORS[kind](episodes, objective or MeanLoss(), **fields)


class Split(NoisyLine):
    """As NoisyLine, but far off on the split that is not trained on."""

    def task(self, cfg, data):
        far = lambda split: data["rows"] + (0.0 if split == "train" else 100.0)
        task = super().task(cfg, data)
        return task._replace(whole=far)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_the_contract(kind):
    """Shapes, finite numbers, state in as out, loss on the measured split."""
    episodes = Episodes(Split(), Descent(), Fixed(4), "outer_valid")
    estimator = make(kind, episodes, MeanLoss(clip=1e6))
    data, keys = episodes.family.load(), jax.random.split(jax.random.key(0), (1, 4))

    @jax.jit
    def run(keys):
        states = begin(estimator, THETA, data, keys)
        return states, estimate(estimator, THETA, data, states, keys)

    states, (gradient, after, metrics) = run(keys)
    assert gradient["rate"].shape == (1, 4) and np.isfinite(gradient["rate"]).all()
    shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    assert shapes(states) == shapes(after)
    assert all(value.shape == (1, 4) for value in metrics.values())
    assert (np.asarray(metrics["objective"]) > 1000.0).all()
    assert isinstance(estimator.inner_steps, int) and estimator.inner_steps >= 4


@pytest.mark.parametrize("kind", STAGGERED)
def test_first_runs_end_at_different_times(kind):
    """Between a window and a whole run, as if they had begun at random times before."""
    estimator = make(kind, parabola(Fixed(40)))
    keys = jax.random.split(jax.random.key(0), 500)
    state = jax.vmap(lambda k: estimator.init(THETA, (), k, 0))(keys)
    ends = np.asarray(getattr(state, "inner", state).horizon).reshape(500, -1)[:, 0]
    assert ends.min() == 4 and ends.max() == 40
    np.testing.assert_allclose(np.median(ends), 20, atol=3)


class TwoGroups(Descent):
    def init(self, key):
        del key
        return {"rate": jnp.float32(0.1), "factors": {"one": jnp.ones(2), "two": jnp.ones(())}}

    def opt(self, theta, horizon, key=None, learning_rate=None):
        factor = jnp.prod(theta["factors"]["one"]) * theta["factors"]["two"]
        return super().opt({"rate": theta["rate"] * factor}, horizon)


@pytest.mark.parametrize("kind", ["pes", "truncated_es"])
def test_only_the_named_weights_are_perturbed(kind):
    episodes = Episodes(Parabola(), TwoGroups(), Fixed(3))
    estimator = ESTIMATORS[kind](episodes, LogLoss(), length=3, only=("factors",))
    theta = episodes.optimizer.init(None)
    gradient, _, _ = jax.jit(
        lambda k: estimator.estimate(theta, (), estimator.init(theta, (), k, 0), k, 0)
    )(jax.random.key(1))
    assert gradient["rate"] == 0.0
    assert all(leaf.all() for leaf in jax.tree.leaves(gradient["factors"]))
    with pytest.raises(ValueError, match="^only: .*did you mean factors"):
        ESTIMATORS[kind](episodes, LogLoss(), length=3, only=("factor",))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_what_would_estimate_something_else_is_refused(kind):
    if kind != "full_backprop":
        with pytest.raises(ValueError, match="estimator.length: 9 .* shortest horizon, 8"):
            make(kind, parabola(LogUniform(8, 20)), length=9)
    with pytest.raises(ValueError, match="'parabola' declares none"):
        make(kind, parabola(Fixed(8), bound=None), LogLoss())


def test_the_config_lines_of_the_page_can_be_run():
    page = (Path(__file__).parents[3] / "docs" / "estimators.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("estimator: ")]
    seen = set()
    for line in lines:
        fields = dict(yaml_subset.parse(line)["estimator"])
        seen.add(kind := fields.pop("kind"))
        ESTIMATORS[kind](parabola(Fixed(300)), MeanLoss(), **fields)
    assert seen == set(ESTIMATORS)


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        ("pes", {"std": 0.0}, "std: 0.0"),
        ("truncated_es", {"std": float("inf")}, "std: inf"),
        ("pes", {"redraw_every": -1}, "redraw_every: -1"),
        ("es", {"final_batches": -1}, "final_batches: -1"),
        ("es", {"final_splits": ("train",)}, "final_splits: they need final_batches"),
        ("es", {"clip_difference": 0.0}, "clip_difference: 0.0"),
        ("pes", {"clip_difference": 1.0, "shaping": "sign"}, "clip_difference: 1.0 has no use"),
        ("backprop", {"remat_every": 3}, "remat_every: 3 must be 0 or divide the 4 steps"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind, fields, named):
    with pytest.raises(ValueError, match=f"^estimator.{named}"):
        ESTIMATORS[kind](parabola(Fixed(8)), MeanLoss(), length=4, **fields)


@pytest.mark.parametrize(("kind", "poison"), [("es", np.nan), ("backprop", np.inf)])
def test_metrics_count_divergence(kind, poison):
    estimator = make(kind, parabola(Fixed(4), poison=poison))
    keys = jax.random.split(jax.random.key(0), (1, 1))
    run = lambda keys: estimate(estimator, THETA, (), begin(estimator, THETA, (), keys), keys)[2]
    metrics = jax.jit(run)(keys)
    assert metrics["diverged"] == metrics["capped"] == 1.0
    assert metrics["objective"] == MeanLoss().clip
    assert kind == "backprop" or metrics["tied"] == 1.0


def test_losses_are_told_by_position_in_the_run():
    steps = jnp.asarray([[7, 8, 9, 0], [7, 8, 9, 0]])
    loss = jnp.asarray([[2.0, 4.0, 6.0, 50.0], [4.0, 4.0, jnp.nan, 8.0]])
    same = jnp.zeros((2, 4))
    seen = describe(
        MeanLoss(clip=10.0),
        Trajectory(loss, same, same, same, same, None, steps, jnp.full((2, 4), 20), same > 0),
    )
    positions = {i: float(seen[f"position/{i}"]) for i in range(10)}
    assert {i for i, value in positions.items() if np.isfinite(value)} == {0, 3, 4}
    assert positions[0] == 9.0 and positions[3] == 3.0 and positions[4] == (4 + 4 + 6 + 10) / 4
    assert seen["capped"] == 2 / 8 and seen["diverged"] == 1 / 8 and seen["horizon"] == 20
