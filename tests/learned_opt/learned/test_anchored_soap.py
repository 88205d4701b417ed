"""The learned pace: the anchor without readouts, in both forms; bounds, losses, lengths, units."""

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt import eval_params
from learned_opt.anchors.base import Plan
from learned_opt.anchors.relative_adam import RelativeAdam
from learned_opt.anchors.relative_soap import RelativeSoap
from learned_opt.anchors.rule import as_transformation
from learned_opt.learned.anchored_soap import AnchoredSoap

SHAPES = [(), (3,), (4, 3), (2, 3, 2)]
STEPS, HORIZON = 8, 6
RULE = AnchoredSoap(hidden=3)
LOSSES = 3.0 - 0.2 * np.arange(STEPS) + np.sin(np.arange(STEPS))
AS_USERS_DO = {"xla_backend_optimization_level": 1}  # the suite compiles without optimisation


def tree(seed: int) -> list[jax.Array]:
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in SHAPES]


def theta_of(rule: AnchoredSoap, readout: float) -> Any:
    """Readouts of about this size."""
    theta, key = rule.init(jax.random.key(1)), jax.random.key(2)
    draw = lambda leaf: readout * jax.random.normal(key, leaf.shape)
    return theta | {"readout": jax.tree.map(draw, theta["readout"])}


@lru_cache
def updater(rule: AnchoredSoap | None, horizon: int | None):
    """Of a rule, or of relative_soap itself."""

    @partial(jax.jit, compiler_options=AS_USERS_DO)
    def update(theta, gradients, state, params, extra):
        if rule is None:
            return as_transformation(RelativeSoap(), 0.1, horizon).update(gradients, state, params)
        return rule.opt(theta, horizon).update(gradients, state, params, **extra)

    return update


def run(rule: AnchoredSoap | None, horizon: int | None, theta=None, unit=1.0, losses=None):
    """The updates, and the points to evaluate at."""
    params = tree(0)
    tx = (
        as_transformation(RelativeSoap(), 0.1, horizon)
        if rule is None
        else rule.opt(theta, horizon)
    )
    state, found, points = tx.init(params), [], []
    for t in range(STEPS):
        gradients = [unit * g for g in tree(t + 1)]
        extra = {} if losses is None else {"value": jnp.float32(losses[t])}
        updates, state = updater(rule, horizon)(theta, gradients, state, params, extra)
        params = optax.apply_updates(params, updates)
        found.append(updates)
        points.append(eval_params(state, params))
    return found, points


@pytest.mark.parametrize("horizon", [HORIZON, None], ids=["known", "anytime"])
def test_with_zero_readouts_it_is_relative_soap(horizon):
    updates, points = run(RULE, horizon, theta_of(RULE, 0.0), losses=LOSSES)
    its, its_points = run(None, horizon)
    jax.tree.map(np.testing.assert_array_equal, updates, its)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7), points, its_points)


def test_what_is_learned_is_bounded():
    """Readouts however large leave the pace within e^1.5 and e^-2 of the anchor's."""
    theta = theta_of(RULE, 0.0)
    for bias, stretch in ((1e4, 1.5), (-1e4, -2.0)):
        pushed = theta | {"readout": theta["readout"] | {"b": jnp.array([bias, 0.0, 0.0, 0.0])}}
        updates, its = run(RULE, HORIZON, pushed)[0][0], run(None, HORIZON)[0][0]
        for one, other in zip(updates, its, strict=True):
            np.testing.assert_allclose(one, np.exp(stretch) * other, rtol=1e-5)


@pytest.mark.parametrize("bias, scale", [(1e4, np.exp(2.0)), (-1e4, np.exp(-3.0))])
def test_the_decay_is_bounded_too(bias, scale):
    rule = replace(RULE, anchor=RelativeSoap(cautious=False))  # decays without a gradient
    theta = theta_of(rule, 0.0)
    pushed = theta | {"readout": theta["readout"] | {"b": jnp.array([0.0, bias, 0.0, 0.0])}}
    params, zero = tree(0), [jnp.zeros(shape) for shape in SHAPES]
    tx = rule.opt(pushed, HORIZON)
    moved, _ = jax.jit(tx.update)(zero, tx.init(params), params)
    plan = Plan(HORIZON, sum(p.size for p in params))
    pace = 0.1 * RelativeSoap().pace(plan, jnp.int32(1))
    for p, u in zip(params, moved, strict=True):
        want = -pace * RelativeSoap().weight_decay * scale * p if p.ndim >= 2 else jnp.zeros_like(p)
        np.testing.assert_allclose(u, want, rtol=1e-5)


def test_the_mix_is_bounded_and_an_outlier_counts_as_one_step():
    """Half of the slow average and half of the clipped gradient, after gradients 1 and 1e6."""
    theta = theta_of(RULE, 0.0)
    pushed = theta | {"readout": theta["readout"] | {"b": jnp.array([0.0, 0.0, 1e4, 1e4])}}
    params, tx = jnp.ones(3), RULE.opt(pushed, HORIZON)
    _, state = tx.update(jnp.ones(3), tx.init(params), params)
    moved, _ = tx.update(jnp.full(3, 1e6), state, params)
    pace = 0.1 * RelativeSoap().pace(Plan(HORIZON, 3), jnp.int32(2))
    root = np.sqrt(0.05 / (1 - 0.95**2))
    direction = 0.5 * (0.03 / (1 - 0.97**2)) / root + 0.5
    np.testing.assert_allclose(moved, -pace * direction, rtol=1e-4)


def test_losses_steer_and_those_not_given_or_not_finite_count_as_none():
    theta = theta_of(RULE, 0.5)
    without = run(RULE, HORIZON, theta)[0]
    lost = run(RULE, HORIZON, theta, losses=np.full(STEPS, np.nan))[0]
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-8), without, lost)
    seen = run(RULE, HORIZON, theta, losses=LOSSES)[0]
    assert not np.allclose(without[-1][2], seen[-1][2], rtol=1e-3)


def test_no_unit_of_the_loss_shows():
    theta = theta_of(RULE, 0.3)
    for horizon in (HORIZON, None):
        one = run(RULE, horizon, theta, losses=LOSSES)[0]
        other = run(RULE, horizon, theta, 1e3, 1e3 * LOSSES)[0]
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), one, other)


def test_the_key_draws_which_runs_have_no_known_length():
    rule = AnchoredSoap(hidden=2, unknown_length=0.25)
    theta = rule.init(jax.random.key(0))

    def has_length(key):
        return rule.opt(theta, HORIZON, key).init({"w": jnp.ones(2)}).has_length

    share = jax.jit(jax.vmap(has_length))(jax.random.split(jax.random.key(3), 1000)).mean()
    assert 0.70 < float(share) < 0.80
    assert bool(rule.opt(theta, HORIZON).init({"w": jnp.ones(2)}).has_length)
    assert not bool(rule.opt(theta, None).init({"w": jnp.ones(2)}).has_length)


def test_a_run_drawn_without_a_known_length_is_one_of_horizon_none():
    rule = AnchoredSoap(hidden=2, unknown_length=1.0, anchor=RelativeAdam())
    theta, params, gradients = rule.init(jax.random.key(0)), tree(0), tree(1)
    found = []
    for tx in (rule.opt(theta, HORIZON, jax.random.key(1)), rule.opt(theta, None)):
        updates, state = jax.jit(tx.update)(gradients, tx.init(params), params)
        found.append((updates, eval_params(state, optax.apply_updates(params, updates))))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), *found)


@pytest.mark.parametrize(
    "wrong", [{"hidden": 0}, {"unknown_length": 1.5}, {"unknown_length": -0.1}]
)
def test_refuses_what_cannot_be(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name}: {value} is not allowed"):
        AnchoredSoap(**wrong)
