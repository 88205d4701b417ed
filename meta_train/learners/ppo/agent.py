"""Policy and critic together: one step of both while playing, whole episodes while learning."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learned_opt.base import Theta
from learned_opt.controller.network import Network, Normaliser, Recurrent
from meta_train.learners.ppo.loss import Judge, Judged, Weights


class Seen(NamedTuple):
    """What policy and critic read at a pause; leading axes as the caller's."""

    observation: Float[Array, "*batch features"]
    privileged: Float[Array, "*batch more"]  # the critic sees these too


class Scales(NamedTuple):
    """How inputs are normalised: the policy's, and all of the critic's."""

    policy: Normaliser
    critic: Normaliser

    def seeing(self, seen: Seen, decay: float | Array) -> "Scales":
        """After a batch of what was seen."""
        everything = _everything(seen)
        mask = jnp.ones(everything.shape[:-1], bool)
        return Scales(
            self.policy.seeing(seen.observation, mask, decay),
            self.critic.seeing(everything, mask, decay),
        )


class Memory(NamedTuple):
    """What the two networks remember of a run."""

    policy: Recurrent
    critic: Recurrent


class Choice(NamedTuple):
    """What was chosen at a pause, and what the critic expected."""

    choices: Int[Array, "*batch heads"]
    log_prob: Float[Array, "*batch"]
    value: Float[Array, "*batch"]  # in standard deviations of the returns


@dataclass(frozen=True)
class Agent:
    """The two networks; the policy has a head for every action, the critic one output."""

    policy: Network
    critic: Network

    def init_critic(self, key: PRNGKeyArray) -> Theta:
        return self.critic.init(key)

    def start(self) -> Memory:
        return Memory(self.policy.initial_state(), self.critic.initial_state())

    def choose(
        self, weights: Weights, scales: Scales, memory: Memory, seen: Seen, key: PRNGKeyArray
    ) -> tuple[Memory, Choice]:
        """Draws from every head; of one run."""
        policy, outputs = self.policy.step(
            weights["policy"], memory.policy, scales.policy(seen.observation)
        )
        # The largest of logits plus Gumbel noise is a draw from their distribution.
        noisy = outputs + jax.random.gumbel(key, outputs.shape)
        choices = self.policy.largest(noisy)
        critic, value = self.critic.step(
            weights["critic"], memory.critic, scales.critic(_everything(seen))
        )
        log_prob, _ = _weighed(self.policy.split(outputs), choices)
        return Memory(policy, critic), Choice(choices, log_prob, value[..., 0])

    def likeliest(
        self, weights: Weights, scales: Scales, memory: Memory, seen: Seen
    ) -> tuple[Memory, Choice]:
        """What the policy would choose in use; the critic is not asked."""
        policy, outputs = self.policy.step(
            weights["policy"], memory.policy, scales.policy(seen.observation)
        )
        nothing = jnp.zeros(())
        choices = self.policy.largest(outputs)
        return Memory(policy, memory.critic), Choice(choices, nothing, nothing)

    def judge(self, scales: Scales) -> Judge:
        """A judge of episodes from their start; axes: pauses, episodes."""

        def judge(weights: Weights, seen: Seen, choices: Array) -> Judged:
            outputs = _unroll(self.policy, weights["policy"], scales.policy(seen.observation))
            value = _unroll(self.critic, weights["critic"], scales.critic(_everything(seen)))
            log_prob, entropy = _weighed(self.policy.split(outputs), choices)
            return Judged(log_prob, entropy, value[..., 0])

        return judge


def _everything(seen: Seen) -> Float[Array, "*batch inputs"]:
    return jnp.concatenate([seen.observation, seen.privileged], axis=-1)


def _unroll(
    network: Network, weights: Theta, inputs: Float[Array, "pauses episodes inputs"]
) -> Any:
    episodes = inputs.shape[1]
    state = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (episodes, *x.shape)), network.initial_state()
    )

    def step(state: Recurrent, x: Array):
        return network.step(weights, state, x)

    return jax.lax.scan(step, state, inputs)[1]


def _weighed(logits: list[Array], choices: Array) -> tuple[Array, Array]:
    """(log-probability of the choices together, entropy summed over the heads)."""
    total, entropy = jnp.zeros(choices.shape[:-1]), jnp.zeros(choices.shape[:-1])
    for i, of_head in enumerate(logits):
        log_probs = jax.nn.log_softmax(of_head)
        chosen = jnp.take_along_axis(log_probs, choices[..., i, None], axis=-1)
        total = total + chosen[..., 0]
        entropy = entropy - jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
    return total, entropy
