"""Advantages by hand, the losses' corner cases, and a policy of two heads that learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train.learners.ppo import loss as ppo
from meta_train.learners.ppo.advantages import advantages
from meta_train.learners.ppo.settings import PPO, Bucket
from meta_train.parallel import AXIS

SETTINGS = PPO()


def test_advantages_of_one_episode_by_hand():
    values, reward, decay = [0.5, -0.2, 1.0], 2.0, 0.9
    last = reward - values[2]
    middle = values[2] - values[1] + decay * last
    first = values[1] - values[0] + decay * middle
    found = advantages(jnp.asarray(values), jnp.asarray(reward), decay)
    np.testing.assert_allclose(found, [first, middle, last], rtol=1e-6)


def test_with_decay_1_every_return_is_the_reward():
    values = jax.random.normal(jax.random.key(0), (5, 3))
    reward = jnp.asarray([1.0, -2.0, 0.5])
    found = advantages(values, reward, 1.0) + values
    np.testing.assert_allclose(found, jnp.broadcast_to(reward, (5, 3)), atol=1e-6)


def test_the_moments_of_returns_forget():
    first, second = jnp.asarray([1.0, 2.0, 3.0]), jnp.asarray([5.0, 7.0])
    found = ppo.with_returns(ppo.with_returns(ppo.no_returns(), first), second)
    weights = np.asarray([1 - 0.999**3] * 3) / 3 * 0.999**2, np.asarray([1 - 0.999**2] * 2) / 2
    values, shares = np.concatenate([first, second]), np.concatenate(weights)
    mean = np.average(values, weights=shares)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-4)
    spread = np.sqrt(np.average((values - mean) ** 2, weights=shares))
    np.testing.assert_allclose(found.spread, spread, rtol=1e-3)
    nothing = ppo.no_returns()
    assert (nothing.mean, nothing.spread) == (0.0, 1.0)


# A problem of two pauses: the observation shows which of three arms pays at each of two heads.
PAUSES, ARMS = 2, 3


def judge(weights, seen, choices):
    """Tables in place of networks: logits and value of each of the three observations."""
    log_probs = jax.nn.log_softmax(weights["logits"][seen])  # pauses, episodes, heads, arms
    chosen = jnp.take_along_axis(log_probs, choices[..., None], axis=-1)[..., 0]
    entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=(-1, -2))
    return ppo.Judged(jnp.sum(chosen, axis=-1), entropy, weights["value"][seen])


def fresh():
    return {"logits": jnp.zeros((ARMS, 2, ARMS)), "value": jnp.zeros(ARMS)}


def play(weights, returns, key, episodes):
    seen_key, choice_key = jax.random.split(key)
    seen = jax.random.randint(seen_key, (PAUSES, episodes), 0, ARMS)
    choices = jax.random.categorical(choice_key, weights["logits"][seen])
    judged = judge(weights, seen, choices)
    reward = jnp.mean((choices == seen[..., None]).astype(jnp.float32), axis=(0, 2))
    value = judged.value * returns.spread + returns.mean
    return ppo.Rollout(seen, choices, judged.log_prob, value, reward)


def on_shards(shards, call, *args):
    """The result of a body with the axis of shards, of the first one."""
    axes = (0, *[None] * len(args))
    mapped = jax.jit(jax.vmap(lambda _, *rest: call(*rest), axes, axis_name=AXIS))(
        jnp.arange(shards), *args
    )
    return jax.tree.map(lambda x: x[0], mapped)


@jax.jit
def on_fresh_data(key):
    """What PPO and what a plain policy gradient make of episodes of the very same weights."""
    weights = fresh() | {"logits": jax.random.normal(key, (ARMS, 2, ARMS))}
    rollout = play(weights, ppo.no_returns(), key, 16)
    batch, _, _ = ppo.targets(SETTINGS, (rollout,), ppo.no_returns())

    def reinforce(w):
        return -jnp.mean(judge(w, rollout.seen, rollout.choices).log_prob * batch[0].advantage)

    def clipped(w):
        return ppo.loss(PPO(entropy=0.0, value=0.0), judge, w, batch)

    return *jax.grad(clipped, has_aux=True)(weights), jax.grad(reinforce)(weights)


def test_on_fresh_data_every_ratio_is_1_and_the_gradient_that_of_policy_gradient():
    grads, metrics, expected = on_fresh_data(jax.random.key(1))
    assert metrics["ppo/kl"] == 0.0 and metrics["ppo/clipped"] == 0.0
    np.testing.assert_allclose(metrics["ppo/surrogate"], 0.0, atol=1e-6)  # the mean advantage
    np.testing.assert_allclose(grads["logits"], expected["logits"], atol=1e-6)


def test_the_ratio_is_clipped_where_that_is_the_worse_of_the_two():
    one = jnp.ones((1, 1))

    def told(w, seen, choices):
        return ppo.Judged(w + seen, 0.0 * one, 0.0 * one)

    def loss(w, advantage):
        target = ppo.Target(0.0 * one, jnp.zeros((1, 1, 1), jnp.int32), 0.0 * one, advantage, one)
        return ppo.loss(PPO(entropy=0.0, value=0.0), told, w, (target,))[0]

    ratios, advantages_ = jnp.asarray([1.5, 1.5, 0.5, 0.5]), jnp.asarray([1.0, -1.0, 1.0, -1.0])
    found, slopes = jax.jit(jax.vmap(jax.value_and_grad(loss)))(
        jnp.log(ratios), advantages_[:, None, None]
    )
    np.testing.assert_allclose(found, [-1.2, 1.5, -0.5, 0.8], rtol=1e-6)
    np.testing.assert_allclose(slopes, [0.0, 1.5, -0.5, 0.0], atol=1e-7)


def test_entropy_and_value_error_count_as_the_settings_say():
    seen = jnp.zeros((PAUSES, 4), jnp.int32)
    choices = jnp.zeros((PAUSES, 4, 2), jnp.int32)
    even = jnp.full((PAUSES, 4), -2 * np.log(ARMS))
    target = ppo.Target(seen, choices, even, 0.0 * even, jnp.full((PAUSES, 4), 3.0))
    settings = PPO(entropy=0.1, value=0.25)
    found, _ = jax.jit(lambda w: ppo.loss(settings, judge, w, (target,)))(fresh())
    np.testing.assert_allclose(found, 0.25 * 9.0 - 0.1 * 2 * np.log(ARMS), rtol=1e-6)


def test_a_policy_of_two_heads_learns_the_same_on_one_shard_and_two():
    tx = optax.adam(0.05)
    rollouts = 2

    def iteration(weights, tx_state, returns, key):
        keys = jax.random.split(key, rollouts + 1)
        played = tuple(play(weights, returns, k, 32) for k in keys[1:])
        batch, returns, seen = ppo.targets(SETTINGS, played, returns)
        weights, tx_state, metrics = ppo.update(
            SETTINGS, judge, tx, weights, tx_state, batch, keys[0]
        )
        reward = jnp.mean(jnp.stack([r.reward for r in played]))
        return weights, tx_state, returns, metrics | seen | {"reward": reward}

    one = jax.jit(lambda *args: on_shards(1, iteration, *args))
    state = fresh(), tx.init(fresh()), ppo.no_returns()
    other = on_shards(2, iteration, *state, jax.random.key(0))
    rewards, metrics = [], {}
    for i in range(40):
        found = one(*state, jax.random.key(i))
        if i == 0:
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, other)
        *state, metrics = found
        rewards.append(float(metrics["reward"]))
    assert rewards[0] < 0.5 and np.mean(rewards[-5:]) > 0.95
    assert metrics["ppo/entropy"] < 1.0 and metrics["meta/rejected"] == 0.0


def test_a_gradient_that_is_not_finite_changes_nothing():
    tx, weights, settings = optax.adam(0.1), fresh(), PPO(minibatches=1)
    zeros = jnp.zeros((PAUSES, 4))
    choices = jnp.zeros((PAUSES, 4, 2), jnp.int32)
    spoilt = ppo.Target(zeros.astype(int), choices, zeros, zeros.at[0, 0].set(jnp.nan), zeros)
    new, state, metrics = on_shards(
        1, lambda k: ppo.update(settings, judge, tx, weights, tx.init(weights), (spoilt,), k),
        jax.random.key(0),
    )  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, (new, state), (weights, tx.init(weights)))
    assert metrics["meta/rejected"] == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PPO(clip=0.0), "clip: 0.0 must be above 0"),
        (lambda: PPO(cap=1.0), "cap: 1.0 must be above 1"),
        (lambda: PPO(decay=1.5), "decay: 1.5 is not allowed"),
        (lambda: PPO(value=-1.0), "value: -1.0 must be at least 0"),
        (lambda: PPO(buckets=(Bucket("a"), Bucket("a"))), "buckets: a-16x24 is there twice"),
        (lambda: Bucket("a", pauses=1), "pauses: 1"),
    ],
)
def test_settings_that_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
