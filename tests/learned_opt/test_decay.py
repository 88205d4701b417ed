"""Weight decay through `load`: closed forms, and who refuses it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.decay import decayed
from tests.contracts.test_optimizers import instance, theta_of

PARAMS = {
    "large": jnp.array([[-3.0, -2.0, -1.0], [0.5, 1.0, 2.0]]),
    "small": jnp.linspace(-0.02, 0.01, 6).reshape(3, 1, 2),
    "half": jnp.linspace(0.5, 1.0, 4).reshape(2, 2).astype(jnp.bfloat16),
    "bias": jnp.array([1.0, -2.0]),
    "scalar": jnp.float32(0.7),
    "label": jnp.arange(4).reshape(2, 2),
}


@pytest.fixture
def saved(tmp_path):
    """kind or kind/preset -> a file with weights of it, named after it."""

    def save(name):
        path = tmp_path / f"{name.replace('/', '_')}.safetensors"
        learned_opt.write(path, instance(name), theta_of(name), {})
        return path

    return save


def gradient(p):
    return jnp.cos(1.0 + jnp.arange(p.size, dtype=jnp.float32)).reshape(p.shape).astype(p.dtype)


def rms(x):
    return math.sqrt(np.mean(np.square(np.asarray(x, np.float64))))


def second_update(tx):
    """(updates, state) after two updates with the same gradients."""
    gradients, state = jax.tree.map(gradient, PARAMS), tx.init(PARAMS)
    for _ in range(2):
        updates, state = tx.update(gradients, state, PARAMS, value=1.0)
    return updates, state


@pytest.mark.parametrize("name", ["anchored_mlp", "celo2/base"])
def test_decay_is_so_many_times_as_long_as_the_step(saved, name):
    path = saved(name)
    plain, plain_state = second_update(learned_opt.load(path, num_steps=5))
    found, state = second_update(learned_opt.load(path, num_steps=5, weight_decay=0.4))
    for leaf, u in plain.items():
        p = np.asarray(PARAMS[leaf], np.float64)
        size = max(rms(p), 0.05)
        share = 0.4 * rms(u) / size if leaf in ("large", "small", "half") else 0.0
        assert found[leaf].dtype == PARAMS[leaf].dtype
        tight = 1e-5 if leaf != "half" else 2e-2
        np.testing.assert_allclose(
            np.asarray(found[leaf], np.float64),
            np.asarray(u, np.float64) - share * p,
            rtol=tight,
            atol=tight * rms(u),
        )
    decay = np.asarray(found["large"] - plain["large"], np.float64)
    assert rms(decay) == pytest.approx(0.4 * rms(plain["large"]), rel=1e-4)
    # The rule itself goes on as before.
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(plain_state), strict=True):
        np.testing.assert_array_equal(one, other)


def test_of_a_step_relative_to_the_tensor_it_is_relative_decoupled_decay():
    """p - r (max(RMS(p), 0.05) u + weight_decay p), where RMS(u) is 1."""
    rate, p = 0.01, PARAMS["large"]
    signs = jnp.sign(gradient(p))
    relative = optax.GradientTransformationExtraArgs(
        lambda params: (), lambda g, state, params=None, **extra: (-rate * rms(p) * signs, ())
    )
    tx = decayed("relative", relative, 0.1)
    updates, _ = tx.update(p, tx.init(p), p)
    np.testing.assert_allclose(updates, -rate * (rms(p) * signs + 0.1 * p), rtol=1e-5)


def test_tensors_without_a_step_do_not_decay():
    tx = decayed("still", optax.with_extra_args_support(optax.set_to_zero()), 0.4)
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    assert not any(np.any(np.asarray(u, np.float32)) for u in jax.tree.leaves(updates))


def test_none_and_zero_leave_a_learned_rule_as_it_is(saved):
    path = saved("hierarchical_rnn/paper_attention")
    for weight_decay in (None, 0.0):
        learned_opt.load(path, weight_decay=weight_decay).init(PARAMS)


def test_rules_that_nothing_else_may_move_refuse_it(saved):
    attention = saved("hierarchical_rnn/paper_attention")
    with pytest.raises(ValueError, match="^weight_decay: .*attention.*takes none; it keeps"):
        learned_opt.load(attention, weight_decay=0.1).init(PARAMS)
    with pytest.raises(ValueError, match="^weight_decay: .*lhopt.*takes none; it chooses"):
        learned_opt.load(saved("lhopt"), num_steps=9, weight_decay=0.1)


def test_a_learned_rule_with_decay_needs_the_parameters(saved):
    tx = learned_opt.load(saved("coordinatewise_lstm"), weight_decay=0.1)
    with pytest.raises(ValueError, match="^params: weight decay reads them"):
        tx.update(PARAMS, tx.init(PARAMS))


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_hand_designed_rules_have_their_own(weight_decay):
    found = learned_opt.load("adamw", weight_decay=weight_decay)
    same = learned_opt.make("adamw", weight_decay=weight_decay)
    params = {"w": PARAMS["large"]}
    updates = [tx.update(params, tx.init(params), params)[0]["w"] for tx in (found, same)]
    np.testing.assert_array_equal(*updates)
    shrunk = -1e-3 * (np.sign(params["w"]) + weight_decay * params["w"])
    np.testing.assert_allclose(updates[0], shrunk, rtol=1e-4)


def test_hand_designed_rules_that_take_none_say_so():
    learned_opt.load("fromage", weight_decay=0.0)
    with pytest.raises(ValueError, match="^weight_decay: fromage takes none"):
        learned_opt.load("fromage", weight_decay=0.1)


@pytest.mark.parametrize("wrong", [-0.1, math.nan, math.inf, True, "0.1"])
def test_what_is_no_weight_decay_is_refused(wrong, unchecked):
    for name in ("adamw", "anchored_mlp"):
        with pytest.raises(ValueError, match="^weight_decay: .* is not allowed; it must be a fin"):
            learned_opt.load(name, weight_decay=wrong)
