"""Losses of a batch: golden values, equivariance, and which examples GradTail weighs up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.loss_side import GradTail, soft_median, top_mean, trimmed_mean

FOUR, FIVE = jnp.array([0.1, 0.2, 0.4, 3.0]), jnp.array([3.0, 0.2, 0.1, 10.0, 0.4])


def test_soft_median():
    """Golden values, both limits, the gradient as weights, and equivariance."""
    cases = [(FOUR, 0.05), (FIVE, 0.05), (FOUR, 0.1), (FIVE, 0.1), (FIVE, 1e-3), (FIVE, 1e6)]
    cases += [(-5 * FIVE + 2, 0.05)]
    expected = [0.30836606, 0.44538440, 0.39482273, 0.77874965, 0.4, 2.74]
    expected += [-5 * 0.44538440 + 2]
    seen, gradient = jax.jit(
        lambda: ([soft_median(*case) for case in cases], jax.grad(soft_median)(FIVE))
    )()
    np.testing.assert_allclose(seen, expected, rtol=2e-6)
    weights = np.exp(-np.abs(np.arange(5) - 2) / 0.25)
    weights /= weights.sum()
    np.testing.assert_allclose(gradient, weights[[3, 1, 0, 4, 2]], rtol=1e-5)


def test_trimmed_and_top_means():
    losses = jnp.array([9.0, 1.0, 2.0, 3.0, 100.0, -50.0, 4.0, 5.0, 6.0, 7.0])
    assert trimmed_mean(losses) == np.mean([1, 2, 3, 4, 5, 6, 7, 9])
    assert trimmed_mean(losses, 0) == losses.mean()
    assert top_mean(losses, 0.21) == np.mean([100, 9, 7])
    assert top_mean(losses, 1.0) == losses.mean()


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: soft_median(FOUR, 0.0), "temperature"),
        (lambda: trimmed_mean(FOUR, 0.5), "fraction"),
        (lambda: top_mean(FOUR, 0.0), "fraction"),
        (lambda: GradTail(most=0.5), "most"),
        (lambda: GradTail(decay=1.0), "decay"),
        (lambda: GradTail(burn_in=0), "burn_in"),
    ],
)
def test_what_is_not_allowed_is_named(call, field):
    with pytest.raises(ValueError, match=f"^{field}: .* is not allowed; it must be"):
        call()


def test_gradtail_weighs_the_orthogonal_minority_up_and_no_one_else():
    """Half of the gradients point along a, a few along b, one against a, one is zero."""
    tail = GradTail(burn_in=3)
    a, b = np.eye(4)[:2]
    usual = {"w": jnp.asarray(np.stack([a * size for size in (1, 2, 3, 4, 5, 6, 7, 8)]))}
    mixed = {"w": jnp.asarray(np.stack([a, 3 * a, 0.1 * a, b, -b, -2 * a, 0 * a, 9 * a]))}
    broken = {"w": mixed["w"].at[7].set(jnp.nan)}

    weigh = jax.jit(tail.weigh)
    state = tail.init({"w": jnp.zeros(4, jnp.bfloat16)})
    for _ in range(3):  # nothing to compare with, then the burn-in
        weights, state = weigh(mixed, state)
        assert (weights == 1).all()
    state = state._replace(average={"w": jnp.asarray(a)})
    weights, _ = weigh(usual, state)
    np.testing.assert_allclose(weights, 1.0, rtol=1e-6)
    weights, _ = weigh(mixed, state)
    expected = np.array([1, 1, 1, 5, 5, 1, 1, 1.0])
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=1e-5)
    weights, after = weigh(broken, state)
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=1e-5)
    assert np.isfinite(after.average["w"]).all()


def test_the_weight_function_and_the_average():
    tail = GradTail(most=3.0, width=0.5, decay=0.75, burn_in=1)
    gradients = np.random.default_rng(1).normal(size=(2, 6, 5))
    state = tail.init(jnp.zeros(5))
    weigh = jax.jit(tail.weigh)
    for batch in gradients:
        weights, state = weigh(jnp.asarray(batch, jnp.float32), state)
    first = 0.25 * gradients[0].mean(0)
    cosine = gradients[1] @ first
    cosine /= np.linalg.norm(gradients[1], axis=1) * np.linalg.norm(first)
    expected = 1 + 2 * np.exp(-(cosine**2) / 0.5)
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(state.average, 0.75 * first + 0.25 * gradients[1].mean(0), rtol=1e-5)
