"""The loss buffer in closed form, and against losses that would spoil it."""

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.learned.parts.features import fraction_features
from learned_opt.learned.parts.loss_buffer import LossBuffer


def fed(losses, num_steps=1000) -> list[LossBuffer]:
    seen = [LossBuffer.start(num_steps)]
    for i, loss in enumerate(losses):
        seen.append(seen[-1].step(jnp.float32(loss), jnp.int32(i)))
    return seen[1:]


def test_timescales_go_from_ten_steps_to_the_whole_run():
    scales = -1.0 / np.log(LossBuffer.start(1000).decays)
    np.testing.assert_allclose(scales[[0, -1]], [10.0, 1000.0], rtol=1e-3)
    np.testing.assert_allclose(scales[1:] / scales[:-1], 100 ** (1 / 9), rtol=1e-3)


def test_decays_are_the_same_bits_however_the_length_is_known():
    """Features of a loss that stands still hang on them."""
    plain = LossBuffer.start(1000).decays
    constant = jax.jit(lambda: LossBuffer.start(1000).decays)()
    traced = jax.jit(jax.vmap(lambda n: LossBuffer.start(n).decays))(jnp.array([1000, 60]))
    np.testing.assert_array_equal(constant, plain)
    np.testing.assert_array_equal(traced[0], plain)


def test_features_of_two_steps_are_zero_and_those_of_a_falling_loss_minus_one():
    first, second, third = fed([4.0, 2.0, 1.0], num_steps=20)
    assert not first.features(jnp.int32(1)).any()
    assert not second.features(jnp.int32(2)).any()
    np.testing.assert_allclose(third.features(jnp.int32(3)), -1.0, atol=1e-3)


def test_a_loss_counts_as_at_most_twice_the_largest_mean():
    _, capped = fed([1.0, 50.0])
    _, doubled = fed([1.0, 2.0])
    np.testing.assert_allclose(capped.means, doubled.means, rtol=1e-3)


def test_losses_that_are_not_finite_do_no_harm():
    seen = fed([1.0, np.nan, np.inf, -np.inf, 1.0])
    assert bool(jnp.isfinite(seen[-1].means).all())
    assert bool(jnp.isfinite(fed([np.nan, 1.0, 1.0])[-1].features(jnp.int32(3))).all())


def test_fraction_features_cross_zero_where_they_stand():
    np.testing.assert_allclose(fraction_features(jnp.int32(4), 10)[3], 0.0, atol=1e-6)
    np.testing.assert_allclose(fraction_features(jnp.int32(10), 10)[0], np.tanh(9.7), rtol=1e-6)
