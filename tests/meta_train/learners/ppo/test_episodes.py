"""Episodes beside plain loops of optax, single and vmapped, with and without NaN; the agent."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt import make
from learned_opt.controller.actions import start_values
from learned_opt.controller.network import Network, Normaliser
from learned_opt.controller.session import Control
from meta_train.learners.ppo.agent import Agent, Choice, Scales, Seen
from meta_train.learners.ppo.critic import Baseline, features, raise_bar
from meta_train.learners.ppo.environment import Environment, baseline_losses, draw_task
from meta_train.learners.ppo.rollout import episode
from tasks.families.synthetic import Quadratic

CONTROL = Control("small", registers=1, end_weights=(5.0,))
BUCKET = Environment("quadratic", Quadratic(dim=3), pauses=3, steps=5)
NOTHING = np.asarray([0, *(action.neutral for action in CONTROL.table)])
TASKS = jax.random.key(3)
SEED = jax.random.key(7)


def follow(memory, seen, key):
    """A policy that reads its choices from a plan."""
    del seen, key
    plan, pause = memory
    return (plan, pause + 1), Choice(plan[pause], jnp.zeros(()), jnp.zeros(()))


def live(plan, values, key):
    baseline = Baseline(jnp.linspace(5.0, 1.0, BUCKET.pauses + 1), jnp.asarray([1.0, 2.0]))
    bar = raise_bar(baseline, BUCKET.pauses, BUCKET.steps, 8.0)
    cfg = draw_task(BUCKET, TASKS, 0)
    memory = plan, jnp.zeros((), jnp.int32)
    return episode(BUCKET, CONTROL, (), cfg, bar, 8.0, values, memory, follow, key)


one_episode, episodes = jax.jit(live), jax.jit(jax.vmap(live))


def plans(count):
    """Random edits; the first episode changes nothing, the second keeps its learning rate."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, np.asarray(CONTROL.heads), (count, BUCKET.pauses, len(NOTHING)))
    drawn[0], drawn[1, :, 1] = NOTHING, NOTHING[1]
    return jnp.asarray(drawn, jnp.int32)


def rates(*values):
    start = {k: jnp.full(len(values), v) for k, v in start_values(CONTROL.table).items()}
    return start | {"learning_rate": jnp.asarray(values)}


@pytest.fixture(scope="module")
def played():
    return episodes(plans(3), rates(0.02, 0.05, 0.01), jax.random.split(SEED, 3))


def by_hand(rule, key):
    """Losses at the pauses of a plain loop."""
    task = BUCKET.family.task(draw_task(BUCKET, TASKS, 0), ())
    params = task.init(jax.random.split(key, 3)[0])
    loss = lambda p: task.loss(p, key, ())

    @jax.jit
    def step(params, state):
        updates, state = rule.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state, losses = rule.init(params), [loss(params)]
    for _ in range(BUCKET.pauses):
        for _ in range(BUCKET.steps):
            params, state = step(params, state)
        losses.append(loss(params))
    return np.asarray(losses)


def test_a_policy_that_changes_nothing_is_a_plain_run_of_ciao(played):
    values = {k: float(v) for k, v in start_values(CONTROL.table).items()}
    rule = make("ciao", None, (), **(values | {"learning_rate": 0.02}))
    expected = by_hand(rule, jax.random.split(SEED, 3)[0])
    np.testing.assert_allclose(played.losses[0], expected, rtol=1e-5)
    assert not played.lost[0]


def test_a_baseline_is_a_plain_run_of_its_rule():
    rule = optax.adamw(0.03, weight_decay=1e-2)
    cfg = draw_task(BUCKET, TASKS, 0)
    found = jax.jit(lambda key: baseline_losses(BUCKET, rule, (), cfg, key))(SEED)
    np.testing.assert_allclose(found, by_hand(rule, SEED), rtol=1e-5)


def test_a_vmapped_episode_equals_a_single_one(played):
    values = {k: v[1] for k, v in rates(0.02, 0.05, 0.01).items()}
    alone = one_episode(plans(3)[1], values, jax.random.split(SEED, 3)[1])
    among = jax.tree.map(lambda x: x[1], played)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5), alone, among)


def test_nan_in_one_episode_leaves_the_others_alone(played):
    spoilt = episodes(plans(3), rates(0.02, 1e34, 0.01), jax.random.split(SEED, 3))
    for row in (0, 2):
        same = lambda a, b, row=row: np.testing.assert_array_equal(a[row], b[row])
        jax.tree.map(same, spoilt, played)
    assert spoilt.lost[1] and spoilt.reward[1] == -3.0
    assert np.isfinite(spoilt.seen.observation).all() and np.isfinite(spoilt.seen.privileged).all()


def test_the_critic_is_told_as_many_numbers_as_announced(played):
    assert played.seen.privileged.shape == (3, BUCKET.pauses, features(CONTROL.table))
    rise = np.diff(np.asarray(played.seen.observation)[:, :, CONTROL.layout["progress"]], axis=1)
    np.testing.assert_allclose(rise, 1 / BUCKET.pauses, rtol=1e-6)


INPUTS, MORE, HEADS = 4, 3, (3, 2)


def test_the_judge_of_an_episode_agrees_with_the_player_and_draws_follow_the_logits():
    policy, critic = (
        Network(INPUTS, HEADS, 5, 5, 5, last=1.0),
        Network(INPUTS + MORE, (1,), 5, 5, 5, last=1.0),
    )
    agent = Agent(policy, critic)
    weights = {"policy": policy.init(jax.random.key(0)), "critic": critic.init(jax.random.key(1))}
    scales = Scales(Normaliser.start(INPUTS), Normaliser.start(INPUTS + MORE))
    episodes, pauses = 2000, 2
    shapes = (pauses, 1, INPUTS), (pauses, 1, MORE)
    parts = [jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]
    seen = Seen(*(jnp.broadcast_to(x, (pauses, episodes, x.shape[-1])) for x in parts))

    @jax.jit
    def play(keys):
        def one(seen, key):
            def pause(memory, at):
                return agent.choose(weights, scales, memory, *at)

            return jax.lax.scan(pause, agent.start(), (seen, jax.random.split(key, pauses)))[1]

        choice = jax.vmap(one, (1, 0), 1)(seen, keys)
        judged = agent.judge(scales)(weights, seen, choice.choices)
        best = agent.likeliest(
            weights, scales, agent.start(), jax.tree.map(lambda x: x[0, 0], seen)
        )
        return choice, judged, best[1].choices

    choice, judged, best = play(jax.random.split(jax.random.key(9), episodes))
    np.testing.assert_allclose(judged.log_prob, choice.log_prob, atol=1e-5)
    np.testing.assert_allclose(judged.value, choice.value, atol=1e-5)
    pairs, first, counts = np.unique(
        np.asarray(choice.choices[0]), axis=0, return_index=True, return_counts=True
    )
    shares = np.exp(np.asarray(judged.log_prob[0])[first])
    assert np.all(np.abs(counts / episodes - shares) < 5 * np.sqrt(shares / episodes))
    np.testing.assert_array_equal(best, pairs[np.argmax(shares)])
