"""Proximal policy optimisation (1707.06347) of whole episodes: losses, epochs and minibatches.

It depends on neither the policy nor the environment: a judge returns how likely the choices of an
episode are, how undecided the policy is there, and what the critic expects.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from meta_train.estimators.base import Metrics
from meta_train.learners.ppo.advantages import advantages
from meta_train.learners.ppo.settings import PPO
from meta_train.parallel import AXIS

RETURNS_DECAY = 0.999  # of the returns' moments, for every return that is seen

Weights = Any  # pytree of arrays: those of policy and critic


class Rollout(NamedTuple):
    """Episodes of one length under one policy; every array's axes: pauses, episodes."""

    seen: Any  # what a judge reads of an episode
    choices: Int[Array, "pauses episodes heads"]
    log_prob: Float[Array, "pauses episodes"]  # of the choices together, under that policy
    value: Float[Array, "pauses episodes"]  # what the critic expected, in units of reward
    reward: Float[Array, " episodes"]


class Judged(NamedTuple):
    """A judge's view of episodes, pause by pause."""

    log_prob: Float[Array, "pauses episodes"]
    entropy: Float[Array, "pauses episodes"]  # summed over the heads
    value: Float[Array, "pauses episodes"]  # in standard deviations of the returns


Judge = Callable[[Weights, Any, Array], Judged]  # of weights, seen and choices


class Target(NamedTuple):
    """What the update reads of a rollout; every array's axes: pauses, episodes."""

    seen: Any
    choices: Int[Array, "pauses episodes heads"]
    log_prob: Float[Array, "pauses episodes"]
    advantage: Float[Array, "pauses episodes"]  # mean 0, spread 1 over all rollouts
    value: Float[Array, "pauses episodes"]  # of the returns, in their standard deviations


class Returns(NamedTuple):
    """Running moments of the returns; mean 0 and spread 1 before the first."""

    weight: Float[Array, ""]  # of all that was seen, 0 .. 1: the bias correction
    first: Float[Array, ""]
    second: Float[Array, ""]

    @property
    def mean(self) -> Float[Array, ""]:
        return self.first / jnp.where(self.weight > 0.0, self.weight, 1.0)

    @property
    def spread(self) -> Float[Array, ""]:
        variance = self.second / jnp.where(self.weight > 0.0, self.weight, 1.0) - self.mean**2
        return jnp.where(self.weight > 0.0, jnp.sqrt(jnp.maximum(variance, 0.0) + 1e-8), 1.0)


def no_returns() -> Returns:
    return Returns(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))


def with_returns(returns: Returns, values: Float[Array, " n"]) -> Returns:
    """The moments after `values`; each makes the past count RETURNS_DECAY times as much."""
    keep = RETURNS_DECAY**values.size
    new = Returns(jnp.ones(()), jnp.mean(values), jnp.mean(jnp.square(values)))
    return jax.tree.map(lambda old, now: keep * old + (1.0 - keep) * now, returns, new)


def targets(
    settings: PPO, rollouts: tuple[Rollout, ...], returns: Returns
) -> tuple[tuple[Target, ...], Returns, Metrics]:
    """The targets of all rollouts together, and the returns' moments with these among them."""
    gained = [advantages(r.value, r.reward, settings.decay) for r in rollouts]
    wanted = [gain + r.value for gain, r in zip(gained, rollouts, strict=True)]
    every, all_wanted = _flat(gained), _flat(wanted)
    returns = with_returns(returns, all_wanted)
    mean, spread = jnp.mean(every), jnp.std(every) + 1e-8
    made = tuple(
        Target(
            r.seen,
            r.choices,
            r.log_prob,
            (gain - mean) / spread,
            (want - returns.mean) / returns.spread,
        )
        for r, gain, want in zip(rollouts, gained, wanted, strict=True)
    )
    unexplained = jnp.var(every) / jnp.maximum(jnp.var(all_wanted), 1e-12)
    return made, returns, {"ppo/explained_variance": 1.0 - unexplained}


def loss(
    settings: PPO, judge: Judge, weights: Weights, batch: tuple[Target, ...]
) -> tuple[Float[Array, ""], Metrics]:
    """Clipped surrogate, value error and entropy, each a mean over all choices of the batch."""
    judged = [judge(weights, target.seen, target.choices) for target in batch]
    each = list(zip(judged, batch, strict=True))
    drift = _flat([j.log_prob - t.log_prob for j, t in each])
    ratio, advantage = jnp.exp(drift), _flat([t.advantage for t in batch])
    clipped = jnp.clip(ratio, 1.0 - settings.clip, 1.0 + settings.clip)
    surrogate = jnp.mean(jnp.minimum(ratio * advantage, clipped * advantage))
    value_loss = jnp.mean(jnp.square(_flat([j.value - t.value for j, t in each])))
    entropy = jnp.mean(_flat([j.entropy for j in judged]))
    total = -surrogate + settings.value * value_loss - settings.entropy * entropy
    return total, {
        "ppo/surrogate": surrogate,
        "ppo/value_loss": value_loss,
        "ppo/entropy": entropy,
        "ppo/kl": jnp.mean(ratio - 1.0 - drift),
        "ppo/clipped": jnp.mean((jnp.abs(ratio - 1.0) > settings.clip).astype(jnp.float32)),
    }


def update(
    settings: PPO,
    judge: Judge,
    tx: optax.GradientTransformation,
    weights: Weights,
    tx_state: Any,
    batch: tuple[Target, ...],
    key: PRNGKeyArray,
) -> tuple[Weights, Any, Metrics]:
    """All epochs over the batch, which every shard of AXIS holds whole and takes its share of.

    A minibatch is an equal part of every rollout's episodes, drawn anew in each epoch. A gradient
    that is not finite changes nothing. Metrics are means over the last epoch.
    """

    def step(carry: tuple[Weights, Any], rows: tuple[Array, ...]):
        weights, tx_state = carry
        part = tuple(
            jax.tree.map(lambda x, own=own: x[:, own], target)
            for target, own in zip(batch, rows, strict=True)
        )
        grads, metrics = jax.grad(lambda w: loss(settings, judge, w, part), has_aux=True)(weights)
        grads, metrics = jax.lax.pmean((grads, metrics), AXIS)
        norm = optax.tree.norm(grads)
        updates, new_state = tx.update(grads, tx_state, weights)
        moved = optax.apply_updates(weights, updates), new_state
        carry = jax.tree.map(lambda new, old: jnp.where(jnp.isfinite(norm), new, old), moved, carry)
        return carry, metrics | {"meta/grad_norm": norm, "meta/rejected": 1.0 - jnp.isfinite(norm)}

    rows = _rows(settings, batch, key)
    (weights, tx_state), metrics = jax.lax.scan(step, (weights, tx_state), rows)
    last = settings.minibatches
    return weights, tx_state, jax.tree.map(lambda x: jnp.mean(x[-last:]), metrics)


def _rows(settings: PPO, batch: tuple[Target, ...], key: PRNGKeyArray) -> tuple[Array, ...]:
    """Which episodes of each rollout this shard takes; axes: update, place in its share."""
    shards, shard = jax.lax.axis_size(AXIS), jax.lax.axis_index(AXIS)

    def of_rollout(number: int, episodes: int) -> Array:
        keys = jax.random.split(jax.random.fold_in(key, number), settings.epochs)
        orders = jax.vmap(lambda k: jax.random.permutation(k, episodes))(keys)
        return orders.reshape(settings.epochs * settings.minibatches, shards, -1)[:, shard]

    return tuple(of_rollout(i, target.value.shape[1]) for i, target in enumerate(batch))


def _flat(parts: list[Array]) -> Array:
    return jnp.concatenate([part.reshape(-1) for part in parts])
