"""How much an expert leads, and that its lead is what the inner run does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.toys import Descent, Parabola

from learned_opt.learned.hierarchical_rnn import PRESETS
from meta_train.estimators import PES
from meta_train.inner.expert import Expert, mixed
from meta_train.inner.horizons import Fixed
from meta_train.inner.objectives import MeanLoss
from meta_train.inner.unroll import Episodes, start, unroll

DATA = ()


def losses(expert, meta_step, rate=0.1):
    episodes = Episodes(Parabola(start=2.0), Descent(), Fixed(5), expert=expert)
    theta, step = {"rate": jnp.float32(rate)}, jnp.int32(meta_step)
    inner = start(episodes, DATA, theta, jax.random.key(0), step)
    return np.asarray(unroll(episodes, DATA, theta, inner, jax.random.key(1), step, 5)[1].loss)


@pytest.mark.parametrize(("step", "weight"), [(0, 1.0), (10, 1.0), (20, 0.5), (30, 0.0), (99, 0.0)])
def test_the_weight_falls_in_a_line(step, weight):
    expert = Expert(full_until=10, gone_by=30)
    np.testing.assert_allclose(expert.weight(jnp.int32(step)), weight, atol=1e-6)


@pytest.mark.parametrize(("meta_step", "rate"), [(0, 0.5), (20, 0.3), (30, 0.1)])
def test_a_step_is_made_at_the_mixed_rate(meta_step, rate):
    """The expert is descent at 0.5 in its first step, before its momentum tells."""
    expert = Expert("sgd", learning_rate=0.5, full_until=10, gone_by=30)
    np.testing.assert_allclose(losses(expert, meta_step)[1], 2.0 * (1.0 - rate) ** 2, rtol=1e-5)


def test_a_full_lead_is_the_experts_own_run_and_none_is_the_rules():
    expert = Expert("sgd", learning_rate=0.5, full_until=10, gone_by=30)
    x, momentum, expected = 2.0, 0.0, []
    for _ in range(5):
        expected.append(0.5 * x**2)
        momentum = 0.9 * momentum + x
        x -= 0.5 * momentum
    np.testing.assert_allclose(losses(expert, 0), expected, rtol=1e-5)
    np.testing.assert_array_equal(losses(expert, 30), losses(None, 0))


def test_what_has_no_weight_may_be_anything():
    bad, good = {"x": jnp.float32(jnp.nan)}, {"x": jnp.float32(3.0)}
    assert mixed(jnp.float32(0.0), bad, good)["x"] == 3.0
    assert mixed(jnp.float32(1.0), good, bad)["x"] == 3.0


def test_an_expert_leads_no_lookahead_point():
    rule = PRESETS["paper_attention"]
    episodes = Episodes(Parabola(), rule, Fixed(5), expert=Expert())
    with pytest.raises(ValueError, match="expert: this optimizer keeps a lookahead point"):
        PES(episodes, MeanLoss(), length=5)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"optimizer": "adm"}, "did you mean adam"),
        ({"learning_rate": 0.0}, "learning_rate: 0.0 must be above 0"),
        ({"full_until": 9, "gone_by": 9}, "gone_by: 9 must be above full_until, 9"),
    ],
)
def test_refusals(fields, words):
    with pytest.raises(ValueError, match=words):
        Expert(**fields)
