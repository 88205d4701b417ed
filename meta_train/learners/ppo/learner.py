"""Meta-training of a controller: episodes of every bucket, then the epochs of PPO on them."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PRNGKeyArray

from learned_opt.base import Theta
from learned_opt.controller.actions import Table, draw_values, start_values
from learned_opt.controller.lhopt import LHOPT
from learned_opt.controller.network import Normaliser
from meta_train.estimators.base import Metrics
from meta_train.learners.base import load_families
from meta_train.learners.ppo import loss as ppo
from meta_train.learners.ppo.agent import Agent, Memory, Scales, Seen
from meta_train.learners.ppo.critic import Baseline, features, raise_bar
from meta_train.learners.ppo.environment import Environment, baseline_losses, draw_task
from meta_train.learners.ppo.loss import Returns, Rollout
from meta_train.learners.ppo.metrics import describe
from meta_train.learners.ppo.rollout import Episode, episode
from meta_train.learners.ppo.settings import PPO
from meta_train.parallel import AXIS, Parallel
from tasks.base import Data

ADAMW = optax.adamw(1e-3, weight_decay=1e-2)
# Decay of the inputs' moments, for each meta-step: faster in the first ones.
EARLY_DECAY, LATE_DECAY, EARLY_STEPS = 0.9, 0.99, 10
# What is folded into the run's key, so that nothing is drawn twice.
TASKS, BASELINES, EPISODES, SHUFFLES = range(4)


class ControllerState(NamedTuple):
    """Everything a run needs to go on: with the same config it continues the same run."""

    step: Int[Array, ""]  # meta-steps made
    theta: Theta  # of the policy, with the normaliser of its inputs
    theta_average: Theta  # moving average of the policy, with the same normaliser
    critic: Theta
    critic_normaliser: Normaliser
    meta_opt_state: Any  # of policy and critic together
    returns: Returns
    baselines: tuple[Baseline, ...]  # per bucket; leading axis: samples
    key: PRNGKeyArray  # never changes; step, bucket and episode are folded in


@dataclass(frozen=True)
class PPOLearner:
    """Trains a controller's policy on whole episodes.

    environments and episodes: per bucket, and how many of each a meta-step plays, a multiple of
    devices times minibatches. meta_optimizer: makes epochs times minibatches updates at every
    meta-step. ema: decay of the moving average of the policy, in [0, 1).
    """

    optimizer: LHOPT
    environments: tuple[Environment, ...]
    episodes: tuple[int, ...]
    settings: PPO
    meta_optimizer: optax.GradientTransformation
    ema: float = 0.99
    parallel: Parallel = field(default_factory=Parallel)

    def __post_init__(self) -> None:
        part = self.parallel.devices * self.settings.minibatches
        for environment, episodes in zip(self.environments, self.episodes, strict=True):
            if episodes < 1 or episodes % part:
                above = max(1, -(-episodes // part)) * part
                raise ValueError(
                    f"estimator: bucket {environment.name}: {episodes} episodes do not divide over "
                    f"{self.parallel.devices} devices and {self.settings.minibatches} minibatches; "
                    f"the next that do are {above}"
                )

    @property
    def inner_steps(self) -> int:
        return sum(
            count * one.pauses * one.steps
            for one, count in zip(self.environments, self.episodes, strict=True)
        )

    def load(self) -> tuple[Data, ...]:
        """Every bucket's arrays, on every device; those of one family are the same.

        Raises MissingData.
        """
        return load_families([one.family for one in self.environments], self.parallel)

    def init(
        self, key: PRNGKeyArray, data: tuple[Data, ...], theta: Theta | None = None
    ) -> ControllerState:
        """A fresh state in its final placement, with the learning curves of the baseline.

        theta: the weights to start from, fresh ones where it is None.
        """
        theta_key, critic_key, run_key = jax.random.split(key, 3)
        if theta is None:
            theta = self.optimizer.init(theta_key)
        own: Theta = jax.tree.map(jnp.array, theta)
        critic = self._agent.critic.init(critic_key)
        state = ControllerState(
            step=jnp.zeros((), jnp.int32),
            theta=own,
            theta_average=own,
            critic=critic,
            critic_normaliser=Normaliser.start(self._agent.critic.inputs),
            meta_opt_state=self.meta_optimizer.init({"policy": own["policy"], "critic": critic}),
            returns=ppo.no_returns(),
            baselines=tuple(self._nothing_yet(one) for one in self.environments),
            key=run_key,
        )
        return self.place(self._with_baselines(state, data))

    def take_over(self, state: ControllerState, data: tuple[Data, ...]) -> ControllerState:
        """The state another learner of the same weights has led here, with this one's baseline."""
        nothing = tuple(self._nothing_yet(one) for one in self.environments)
        return self.place(self._with_baselines(state._replace(baselines=nothing), data))

    def place(self, state: ControllerState) -> ControllerState:
        """Puts every array where `step` wants it, so that it compiles once."""
        return self.parallel.replicate(state)

    def prepare(self, data: tuple[Data, ...]) -> None:
        """Compiles all that `take_over` and `step` run, so that neither has to wait."""
        jax.block_until_ready(self.step(self.init(jax.random.key(0), data), data))

    def theta(self, state: ControllerState) -> Theta:
        """The averaged weights."""
        return state.theta_average

    def step(
        self, state: ControllerState, data: tuple[Data, ...]
    ) -> tuple[ControllerState, Metrics]:
        """One meta-step: episodes under one policy, then the update of policy and critic."""
        if self.settings.baseline == "self_play":
            made = int(state.step)
            if made and made % self.settings.refresh == 0:
                state = self.place(self._with_baselines(state, data))
        played = tuple(self.play(state, arrays, i) for i, arrays in enumerate(data))
        state, _, metrics = self._update(state, played, ())
        return state, metrics

    def play(self, state: ControllerState, data: Data, number: int) -> Episode:
        """The episodes of one bucket in this meta-step; leading axes: shard, episode."""
        numbers = jnp.arange(self.episodes[number]).reshape(self.parallel.devices, -1)
        _, episodes, _ = self._plays[number](state, self.parallel.shard(numbers), data)
        return episodes

    @cached_property
    def _agent(self) -> Agent:
        return Agent(self.optimizer.policy, self.optimizer.critic(features(self._table)))

    @property
    def _table(self) -> Table:
        return self.optimizer.control.table

    # Baselines

    def _nothing_yet(self, environment: Environment) -> Baseline:
        samples, seeds = self.settings.samples, self.settings.seeds
        return Baseline(jnp.ones((samples, environment.pauses + 1)), jnp.ones((samples, seeds)))

    def _with_baselines(self, state: ControllerState, data: tuple[Data, ...]) -> ControllerState:
        found = [
            measure(state, arrays) for measure, arrays in zip(self._measures, data, strict=True)
        ]
        return state._replace(baselines=tuple(found))

    @cached_property
    def _measures(self) -> tuple[Any, ...]:
        """For every bucket: (state, data) -> Baseline, compiled when it is called."""
        return tuple(jax.jit(self._measure(i)) for i in range(len(self.environments)))

    def _measure(self, number: int) -> Any:
        environment = self.environments[number]

        def losses(state: ControllerState, data: Data, sample: Array, key: PRNGKeyArray) -> Array:
            if self.settings.baseline == "adamw":
                cfg = draw_task(environment, self._task_key(state, number), sample)
                return baseline_losses(environment, ADAMW, data, cfg, key)
            return self._live(state, data, number, sample, key, greedy=True).losses

        def measure(state: ControllerState, data: Data) -> Baseline:
            key = jax.random.fold_in(jax.random.fold_in(state.key, BASELINES), number)
            samples = jnp.repeat(jnp.arange(self.settings.samples), self.settings.seeds)
            keys = jax.random.split(key, len(samples))
            found = jax.vmap(losses, (None, None, 0, 0))(state, data, samples, keys)
            found = found.reshape(self.settings.samples, self.settings.seeds, -1)
            return Baseline(jnp.median(found, axis=1), found[:, :, -1])

        return measure

    def _task_key(self, state: ControllerState, number: int) -> PRNGKeyArray:
        return jax.random.fold_in(jax.random.fold_in(state.key, TASKS), number)

    # Episodes

    def _live(
        self,
        state: ControllerState,
        data: Data,
        number: int,
        sample: Array,
        key: PRNGKeyArray,
        greedy: bool = False,
    ) -> Episode:
        environment, control = self.environments[number], self.optimizer.control
        values_key, key = jax.random.split(key)
        theta = state.theta_average if greedy else state.theta
        weights = {"policy": theta["policy"], "critic": state.critic}
        scales = self._scales(state)

        def choose(memory: Memory, seen: Seen, key: PRNGKeyArray):
            if greedy:
                return self._agent.likeliest(weights, scales, memory, seen)
            return self._agent.choose(weights, scales, memory, seen, key)

        baseline = jax.tree.map(lambda x: x[sample], state.baselines[number])
        cap = self.settings.cap
        return episode(
            environment,
            control,
            data,
            draw_task(environment, self._task_key(state, number), sample),
            raise_bar(baseline, environment.pauses, environment.steps, cap),
            cap,
            start_values(self._table) if greedy else draw_values(values_key, self._table),
            self._agent.start(),
            choose,
            key,
        )

    @cached_property
    def _plays(self) -> tuple[Any, ...]:
        """For every bucket: (state, numbers of the episodes, data) -> (nothing, Episode, {})."""
        return tuple(
            self.parallel.compile(self._play(i), donate=False)
            for i in range(len(self.environments))
        )

    def _play(self, number: int) -> Any:
        count = self.episodes[number]

        def one(state: ControllerState, data: Data, index: Array) -> Episode:
            key = jax.random.fold_in(jax.random.fold_in(state.key, EPISODES), state.step)
            key = jax.random.fold_in(jax.random.fold_in(key, number), index)
            # Round and round, also where there are fewer episodes than tasks.
            sample = (state.step * count + index) % self.settings.samples
            return self._live(state, data, number, sample, key)

        def play(
            state: ControllerState, numbers: Array, data: Data
        ) -> tuple[tuple[()], Episode, Metrics]:
            return (), jax.vmap(one, (None, None, 0))(state, data, numbers), {}

        return play

    # The update

    def _scales(self, state: ControllerState) -> Scales:
        return Scales(state.theta["normaliser"], state.critic_normaliser)

    @cached_property
    def _update(self) -> Any:
        return self.parallel.compile(self._body, donate=False)

    def _body(
        self, state: ControllerState, episodes: tuple[Episode, ...], data: tuple[()]
    ) -> tuple[ControllerState, tuple[()], Metrics]:
        del data
        everyone = jax.tree.map(lambda x: jax.lax.all_gather(x, AXIS, axis=0, tiled=True), episodes)
        metrics: Metrics = {}
        for environment, found in zip(self.environments, everyone, strict=True):
            metrics |= describe(environment, found, self.settings.cap)
        rewards = jnp.concatenate([found.reward for found in everyone])
        metrics["meta/loss"] = -jnp.mean(rewards)
        rollouts = _rollouts(everyone, state.returns)
        batch, returns, seen = ppo.targets(self.settings, rollouts, state.returns)
        key = jax.random.fold_in(jax.random.fold_in(state.key, SHUFFLES), state.step)
        weights, meta_opt_state, learned = ppo.update(
            self.settings,
            self._agent.judge(self._scales(state)),
            self.meta_optimizer,
            {"policy": state.theta["policy"], "critic": state.critic},
            state.meta_opt_state,
            batch,
            key,
        )
        decay = jnp.where(state.step < EARLY_STEPS, EARLY_DECAY, LATE_DECAY)
        scales = self._scales(state).seeing(_joined([r.seen for r in rollouts]), decay)
        average = jax.tree.map(
            lambda a, w: self.ema * a + (1.0 - self.ema) * w,
            state.theta_average["policy"],
            weights["policy"],
        )
        state = state._replace(
            step=state.step + 1,
            theta={"normaliser": scales.policy, "policy": weights["policy"]},
            theta_average={"normaliser": scales.policy, "policy": average},
            critic=weights["critic"],
            critic_normaliser=scales.critic,
            meta_opt_state=meta_opt_state,
            returns=returns,
        )
        return state, (), metrics | seen | learned


def _rollouts(episodes: tuple[Episode, ...], returns: Returns) -> tuple[Rollout, ...]:
    """One rollout for each number of pauses, of the episodes of all buckets that have it."""
    by_pauses: dict[int, list[Rollout]] = {}
    for found in episodes:
        timed = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (found.seen, found.choice))
        seen, choice = timed
        value = choice.value * returns.spread + returns.mean
        rollout = Rollout(seen, choice.choices, choice.log_prob, value, found.reward)
        by_pauses.setdefault(len(value), []).append(rollout)
    return tuple(
        jax.tree.map(lambda *x: jnp.concatenate(x, axis=min(1, x[0].ndim - 1)), *same)
        for same in by_pauses.values()
    )


def _joined(seen: list[Seen]) -> Seen:
    """All pauses of all episodes, one after the other."""
    flat = [jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), part) for part in seen]
    return jax.tree.map(lambda *x: jnp.concatenate(x), *flat)
