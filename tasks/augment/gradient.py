"""What happens to a gradient between the task and the optimizer; the loss stays as it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from tasks.base import Cfg, Params, Task
from tasks.names import check_at_least, check_fractions, check_probability, check_range
from tasks.sampling import log_uniform


def _then(task: Task, init: Callable[[Params], Any], update: Callable[..., Any]) -> Task:
    """The task whose gradient goes through one transformation more."""
    after = optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore
    return task._replace(gradient=optax.chain(task.gradient, after))


def _then_stateless(task: Task, change: Callable[[Params, PRNGKeyArray], Params]) -> Task:
    def update(updates, state, params=None, *, key, **extra):
        del params, extra
        return change(updates, key), state

    return _then(task, lambda params: optax.EmptyState(), update)


def _own_key(key: PRNGKeyArray, cfg: Cfg) -> PRNGKeyArray:
    """The task's own noise is drawn from `key`; the seed of the augmentation leads away from it."""
    return jax.random.fold_in(key, cfg["seed"])


def _by_leaf(
    change: Callable[[Array, PRNGKeyArray], Array], key: PRNGKeyArray, updates: Params
) -> Params:
    leaves, structure = jax.tree.flatten(updates)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, list(map(change, leaves, keys)))


@dataclass(frozen=True)
class GradientNoise:
    """Adds N(0, std^2) to every gradient entry at every step; std is log-uniform in `std`."""

    per_family: ClassVar[bool] = False
    needs_lower_bound: ClassVar[bool] = False
    probability: float = 1.0
    std: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self):
        check_probability(self.probability)
        check_range("std", self.std)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        std_key, seed_key = jax.random.split(key)
        return {"std": log_uniform(std_key, self.std), "seed": jax.random.bits(seed_key)}

    def wrap(self, task: Task, cfg: Cfg, on: Bool[Array, ""]) -> Task:
        def noisy(leaf: Array, key: PRNGKeyArray) -> Array:
            noise = jax.random.normal(key, leaf.shape, leaf.dtype)
            return jnp.where(on, leaf + cfg["std"].astype(leaf.dtype) * noise, leaf)

        return _then_stateless(task, lambda g, key: _by_leaf(noisy, _own_key(key, cfg), g))


@dataclass(frozen=True)
class SparseGradient:
    """Sets every gradient entry to 0 with a probability that is uniform in `zero` (1703.04813)."""

    per_family: ClassVar[bool] = False
    needs_lower_bound: ClassVar[bool] = False
    probability: float = 1.0
    zero: tuple[float, float] = (0.5, 0.99)

    def __post_init__(self):
        check_probability(self.probability)
        check_fractions("zero", self.zero)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        zero_key, seed_key = jax.random.split(key)
        low, high = self.zero
        zero = jax.random.uniform(zero_key, minval=low, maxval=high)
        return {"zero": zero, "seed": jax.random.bits(seed_key)}

    def wrap(self, task: Task, cfg: Cfg, on: Bool[Array, ""]) -> Task:
        def thinned(leaf: Array, key: PRNGKeyArray) -> Array:
            gone = jax.random.bernoulli(key, cfg["zero"], leaf.shape)
            return jnp.where(on & gone, jnp.zeros_like(leaf), leaf)

        return _then_stateless(task, lambda g, key: _by_leaf(thinned, _own_key(key, cfg), g))


@dataclass(frozen=True)
class NormalisedGradient:
    """The gradient divided by its norm over all tensors; a gradient of 0 stays 0."""

    per_family: ClassVar[bool] = False
    needs_lower_bound: ClassVar[bool] = False
    probability: float = 1.0

    def __post_init__(self):
        check_probability(self.probability)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        del key
        return ()

    def wrap(self, task: Task, cfg: Cfg, on: Bool[Array, ""]) -> Task:
        del cfg

        def change(updates: Params, key: PRNGKeyArray) -> Params:
            del key
            # The largest entry comes first, since squares of 1e20 or 1e-23 leave float32.
            largest = jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(updates)]).max()
            largest = jnp.where(largest > 0, largest, 1.0)
            relative = jax.tree.map(lambda leaf: leaf / largest, updates)
            squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(relative))
            norm = jnp.maximum(jnp.sqrt(squares), 1.0)  # below 1 only where all entries are 0
            return jax.tree.map(lambda new, old: jnp.where(on, new / norm, old), relative, updates)

        return _then_stateless(task, change)


class SubspaceState(NamedTuple):
    group: Params  # int32, shape of the parameters: which direction an entry belongs to; fixed
    sign: Params  # int8, same shape: +1 or -1; fixed


@dataclass(frozen=True)
class RandomSubspace:
    """The gradient projected on a random subspace that stays the same during a run.

    dimension: bounds of its dimension, log-uniform; at most the number of parameters counts. The
    parameters are dealt at random to that many groups of equal size, and each group's direction is
    a random vector of signs: orthogonal directions in five bytes per parameter.
    """

    per_family: ClassVar[bool] = False
    needs_lower_bound: ClassVar[bool] = False
    probability: float = 1.0
    dimension: tuple[int, int] = (1, 1024)

    def __post_init__(self):
        check_probability(self.probability)
        check_range("dimension", self.dimension)
        check_at_least(1, dimension=self.dimension[0])

    def sample(self, key: PRNGKeyArray) -> Cfg:
        size_key, seed_key = jax.random.split(key)
        dimension = jnp.round(log_uniform(size_key, self.dimension)).astype(jnp.int32)
        return {"dimension": dimension, "seed": jax.random.bits(seed_key)}

    def wrap(self, task: Task, cfg: Cfg, on: Bool[Array, ""]) -> Task:
        def init(params: Params) -> SubspaceState:
            deal_key, sign_key = jax.random.split(jax.random.key(cfg["seed"]))
            sizes = [leaf.size for leaf in jax.tree.leaves(params)]
            dealt = jax.random.permutation(deal_key, sum(sizes)) % cfg["dimension"]
            signs = 2 * jax.random.bernoulli(sign_key, shape=(sum(sizes),)).astype(jnp.int8) - 1
            ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
            return SubspaceState(
                _shaped(jnp.split(dealt, ends), params), _shaped(jnp.split(signs, ends), params)
            )

        def update(updates, state, params=None, **extra):
            del params, extra
            dtype = jnp.result_type(*jax.tree.leaves(updates))
            sums = counts = jnp.zeros(self.dimension[1], dtype)
            for leaf, group, sign in zip(*map(jax.tree.leaves, (updates, *state)), strict=True):
                sums = sums.at[group].add(leaf * sign)
                counts = counts.at[group].add(1.0)
            along = sums / jnp.maximum(counts, 1.0)
            projected = jax.tree.map(
                lambda leaf, group, sign: jnp.where(on, sign * along[group], leaf), updates, *state
            )
            return projected, state

        return _then(task, init, update)


def _shaped(parts: list[Array], like: Params) -> Params:
    leaves, structure = jax.tree.flatten(like)
    return jax.tree.unflatten(
        structure, [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    )


class DelayState(NamedTuple):
    ring: Params  # the latest gradients, leading axis longest delay + 1; a slot is set each step
    count: Int[Array, ""]  # steps so far


@dataclass(frozen=True)
class AsynchronousDelay:
    """The optimizer sees the gradient of d steps ago, and the first one until step d.

    steps: bounds of d, uniform. Holds (longest delay + 1) gradients for every task.
    """

    per_family: ClassVar[bool] = False
    needs_lower_bound: ClassVar[bool] = False
    probability: float = 1.0
    steps: tuple[int, int] = (1, 8)

    def __post_init__(self):
        check_probability(self.probability)
        check_range("steps", self.steps)
        check_at_least(1, steps=self.steps[0])

    def sample(self, key: PRNGKeyArray) -> Cfg:
        low, high = self.steps
        return jax.random.randint(key, (), low, high + 1)

    def wrap(self, task: Task, cfg: Cfg, on: Bool[Array, ""]) -> Task:
        slots = self.steps[1] + 1
        delay = jnp.where(on, cfg, 0)

        def init(params: Params) -> DelayState:
            ring = jax.tree.map(lambda leaf: jnp.zeros((slots, *leaf.shape), leaf.dtype), params)
            return DelayState(ring, jnp.zeros((), jnp.int32))

        def update(updates, state, params=None, **extra):
            del params, extra
            now, then = state.count % slots, jnp.maximum(state.count - delay, 0) % slots
            ring = jax.tree.map(lambda r, leaf: r.at[now].set(leaf), state.ring, updates)
            return jax.tree.map(lambda r: r[then], ring), DelayState(ring, state.count + 1)

        return _then(task, init, update)
