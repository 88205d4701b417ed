"""Families made of other families: rescaled, logged, with sparse gradients, summed (1703.04813).

They are written in Python, around families, and have no kind for configs. What the wrapped families
do to gradients is done here too, noise included.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Split, Task, TaskFamily
from tasks.traits import traits

_FLOOR = 1e-6  # of a loss whose logarithm is taken


@dataclass(frozen=True)
class Rescale:
    """A family in other units: parameters are `scale` times its own, so gradients are 1 / scale.

    scale: > 0. name: the family's with "_rescaled", unless given. Distortions of the gradient act
    in the family's own units.
    """

    family: TaskFamily
    scale: float
    name: str = ""

    def __post_init__(self):
        if not self.scale > 0:
            raise ValueError(f"scale: {self.scale} is not allowed; it must be above 0")
        _name(self, f"{self.family.name}_rescaled")

    def load(self) -> Data:
        return self.family.load()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return self.family.sample(key)

    def task(self, cfg: Cfg, data: Data) -> Task:
        inner = self.family.task(cfg, data)

        def init(key: PRNGKeyArray) -> Params:
            return _times(self.scale, inner.init(key))

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            return inner.loss(_times(1 / self.scale, params), key, batch)

        gradient = optax.chain(optax.scale(self.scale), inner.gradient, optax.scale(1 / self.scale))
        return inner._replace(init=init, loss=loss, gradient=gradient)


@dataclass(frozen=True)
class LogObjective:
    """log(loss + 1e-6) - log 1e-6 of a family's loss, which counts as 0 where it is below.

    It is 0 where the loss is 0. name: the family's with "_log", unless given. Distortions of the
    gradient act on that of the logarithm.
    """

    family: TaskFamily
    name: str = ""

    def __post_init__(self):
        _name(self, f"{self.family.name}_log")

    def load(self) -> Data:
        return self.family.load()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return self.family.sample(key)

    def task(self, cfg: Cfg, data: Data) -> Task:
        inner = self.family.task(cfg, data)

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            return _log(inner.loss(params, key, batch))

        bound = 0.0
        if inner.lower_bound is not None:
            # A hair below, since float32 may undercut a logarithm.
            bound = 0.999999 * _log(jnp.asarray(inner.lower_bound))
        return inner._replace(loss=loss, lower_bound=bound)


@dataclass(frozen=True)
class SparseGradient:
    """A family whose gradient entries are each 0 with some probability, anew at every step.

    probability: 0 .. 1. name: the family's with "_sparse", unless given. Other distortions of the
    gradient come first.
    """

    family: TaskFamily
    probability: float = 0.99
    name: str = ""

    def __post_init__(self):
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability: {self.probability} is not allowed; it must be 0 .. 1")
        _name(self, f"{self.family.name}_sparse")

    def load(self) -> Data:
        return self.family.load()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return self.family.sample(key)

    def task(self, cfg: Cfg, data: Data) -> Task:
        inner = self.family.task(cfg, data)
        distort = optax.with_extra_args_support(inner.gradient)

        def update(updates, state, params=None, *, key, **extra):
            inner_key, mask_key = jax.random.split(key)
            updates, state = distort.update(updates, state, params, key=inner_key, **extra)
            return _masked(updates, mask_key, 1 - self.probability), state

        gradient = optax.GradientTransformationExtraArgs(
            distort.init,
            update,  # pyright: ignore[reportArgumentType]
        )
        return inner._replace(gradient=gradient)


@dataclass(frozen=True)
class SumOfTasks:
    """Several problems at once: a tuple of their parameters, the sum of their losses.

    The gradient of each is distorted as its own family does it. name: required.
    """

    families: tuple[TaskFamily, ...]
    name: str

    def __post_init__(self):
        if not self.families:
            raise ValueError("families: () is not allowed; there must be at least one")

    @property
    def architecture(self) -> str:
        return _joined(traits(family).architecture for family in self.families)

    @property
    def dataset(self) -> str:
        return _joined(traits(family).dataset for family in self.families)

    @property
    def loss(self) -> str:
        return _joined(traits(family).loss for family in self.families)

    def load(self) -> Data:
        return tuple(family.load() for family in self.families)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        keys = jax.random.split(key, len(self.families))
        return tuple(f.sample(k) for f, k in zip(self.families, keys, strict=True))

    def task(self, cfg: Cfg, data: Data) -> Task:
        parts = [f.task(c, d) for f, c, d in zip(self.families, cfg, data, strict=True)]

        def init(key: PRNGKeyArray) -> Params:
            keys = jax.random.split(key, len(parts))
            return tuple(part.init(k) for part, k in zip(parts, keys, strict=True))

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            keys = jax.random.split(key, len(parts))
            return tuple(part.batch(k, split) for part, k in zip(parts, keys, strict=True))

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            keys = jax.random.split(key, len(parts))
            each = zip(parts, params, keys, batch, strict=True)
            return sum((part.loss(p, k, b) for part, p, k, b in each), start=jnp.float32(0))

        bounds = [part.lower_bound for part in parts if part.lower_bound is not None]
        return Task(
            init,
            batch,
            lambda split: tuple(part.whole(split) for part in parts),
            loss,
            sum(bounds) if len(bounds) == len(parts) else None,
            _side_by_side([part.gradient for part in parts]),
        )


def _name(family: TaskFamily, default: str) -> None:
    if not family.name:
        object.__setattr__(family, "name", default)


def _times(factor: float, params: Params) -> Params:
    return jax.tree.map(lambda leaf: factor * leaf, params)


def _log(loss: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.log1p(jnp.maximum(loss, 0) / _FLOOR)


def _masked(updates: Params, key: PRNGKeyArray, kept: float) -> Params:
    leaves, structure = jax.tree.flatten(updates)
    keys = jax.random.split(key, len(leaves))
    masks = [
        jax.random.bernoulli(k, kept, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(
        structure, [jnp.where(mask, leaf, 0) for mask, leaf in zip(masks, leaves, strict=True)]
    )


def _side_by_side(gradients: list[optax.GradientTransformation]) -> optax.GradientTransformation:
    """Each transformation on its own entry of a tuple, with a key of its own."""
    each = [optax.with_extra_args_support(gradient) for gradient in gradients]

    def init(params: Params):
        return tuple(one.init(part) for one, part in zip(each, params, strict=True))

    def update(updates, state, params=None, *, key, **extra):
        params = params if params is not None else (None,) * len(each)
        keys = jax.random.split(key, len(each))
        done = [
            one.update(u, s, p, key=k, **extra)
            for one, u, s, p, k in zip(each, updates, state, params, keys, strict=True)
        ]
        return tuple(u for u, _ in done), tuple(s for _, s in done)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


def _joined(names: Iterable[str]) -> str:
    return "+".join(sorted(set(names)))
