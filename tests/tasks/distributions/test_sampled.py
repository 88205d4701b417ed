"""The drawn distributions against what their papers document; the whole of each, cheaply."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tasks.cost import Limit
from tasks.distributions import DISTRIBUTIONS
from tasks.distributions.base import Drawn
from tasks.distributions.draws import Draws
from tasks.distributions.sampled import Sampled
from tasks.distributions.taskset import activation, conv_fc, initializer, mlp, taskset

DRAWN = {name: one for name, one in DISTRIBUTIONS.items() if isinstance(one, Drawn)}
SMALL = Limit(parameters=20_000, operations=20_000_000)


@pytest.mark.parametrize("name", DRAWN)
def test_kinds_come_as_often_as_their_weights_say(name):
    kinds = DRAWN[name].kinds
    families = DRAWN[name].sample(3, 2_000)
    weights = np.array([weight for _, weight, _ in kinds])
    seen = Counter(family.name.split("_", 3)[3] for family in families)
    counts = [seen[kind] for kind, _, _ in kinds]
    assert sum(counts) == 2_000
    assert stats.chisquare(counts, 2_000 * weights / weights.sum()).pvalue > 1e-4


def drawn(build, count=4_000):
    draws = Draws(11)
    return [build(draws) for _ in range(count)]


def check_shares(values, expected):
    counts = Counter(values)
    assert set(counts) == set(expected)
    total = sum(expected.values())
    wanted = [len(values) * weight / total for weight in expected.values()]
    assert stats.chisquare([counts[value] for value in expected], wanted).pvalue > 1e-4


def test_activations_and_initializers_of_taskset():
    others = ("cos", "elu", "sigmoid", "silu", "leaky_relu_40", "leaky_relu_20", "leaky_relu_10")
    check_shares(drawn(activation), {"relu": 6, "tanh": 3, **dict.fromkeys(others, 1)})
    found = drawn(initializer)
    twice = ("he_normal", "he_uniform", "glorot_normal", "glorot_uniform")
    once = ("orthogonal", "uniform", "normal", "truncated_normal", "lecun_normal")
    check_shares(
        [one["initializer"] for one in found], dict.fromkeys(twice, 2) | dict.fromkeys(once, 1)
    )


def test_sizes_of_taskset_networks():
    found = drawn(lambda draws: mlp(draws, ("digits", "patches")))
    check_shares([len(family.widths) for family in found], dict.fromkeys(range(1, 7), 1))
    widths = np.array([width for family in found for width in family.widths])
    assert widths.min() == 16 and widths.max() == 128
    assert np.mean(widths < 45) == pytest.approx(np.log(44.5 / 16) / np.log(8), abs=0.02)
    batches = np.array([family.batch_size for family in found])
    assert batches.min() == 8 and batches.max() <= 256
    assert stats.kstest(np.log(batches / 8) / np.log(32), "uniform").statistic < 0.05


def test_convolutions_of_taskset_fit_their_images():
    found = drawn(lambda draws: conv_fc(draws, ("digits", "patches")), 300)
    assert {len(family.channels) for family in found} == {1, 2, 3, 4, 5}
    assert {family.dataset for family in found} == {"digits", "patches"}


def test_other_datasets_can_be_named():
    families = taskset("mine", images=("mnist",), texts=("lm1b",)).sample(0, 40)
    seen = {getattr(family, "dataset", None) for family in families}
    assert {"mnist", "lm1b"} <= seen and not {"digits", "patches", "documentation"} & seen


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "taskset")) for name in DRAWN]
)
def test_drawn_tasks_start_with_a_finite_loss_and_gradient(name):
    """A few here; scripts/check_sampled.py does thousands."""
    for family in DRAWN[name].sample(1, 3, SMALL):

        @jax.jit
        def first(data, key, family=family):
            task = family.task(family.sample(key), data)
            batch = task.batch(key, "train")
            value, grads = jax.value_and_grad(task.loss)(task.init(key), key, batch)
            leaves = [value, *jax.tree.leaves(grads)]
            return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]).all()

        assert first(family.load(), jax.random.key(0)), family


def test_bad_blocks_are_refused():
    with pytest.raises(ValueError, match="did you mean taskset?"):
        Sampled("tasksets")
    with pytest.raises(ValueError, match="count: 0"):
        Sampled("taskset", count=0)
    assert len(Sampled("literature_paper", count=5).families()) == 5
