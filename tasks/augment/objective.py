"""What changes the function: its coordinates, its scale, its shape, its arithmetic."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from tasks.base import Batch, Cfg, Params, Task
from tasks.names import check_name, check_probability, check_range
from tasks.sampling import log_uniform

LEVELS = ("global", "tensor", "parameter")
_LOG_FLOOR = 1e-6


@dataclass(frozen=True)
class Reparametrise:
    """Parameters in other units: the start divided by s, the loss at s times the parameters.

    level: one s for all parameters ("global"), one per tensor ("tensor") or one per entry
    ("parameter"); range: of s, log-uniform. What distorts the task's gradient acts in the old
    units. (2211.09760)
    """

    per_family: ClassVar[bool] = False
    needs_lower_bound: ClassVar[bool] = False
    probability: float = 1.0
    level: str = "global"
    range: tuple[float, float] = (1e-3, 1e3)

    def __post_init__(self):
        check_probability(self.probability)
        check_name("level", self.level, LEVELS)
        check_range("range", self.range)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return jax.random.bits(key)

    def _scales(self, params: Params, seed: Cfg, on: Bool[Array, ""]) -> Params:
        """s for every tensor: drawn again at each use, since a stored copy doubles the memory."""
        leaves, structure = jax.tree.flatten(params)
        key = jax.random.key(seed)
        keys = [key] * len(leaves) if self.level == "global" else jax.random.split(key, len(leaves))
        scales = [
            log_uniform(leaf_key, self.range, leaf.shape if self.level == "parameter" else ())
            for leaf, leaf_key in zip(leaves, keys, strict=True)
        ]
        return jax.tree.unflatten(
            structure,
            [
                jnp.where(on, s, 1.0).astype(leaf.dtype)
                for s, leaf in zip(scales, leaves, strict=True)
            ],
        )

    def wrap(self, task: Task, cfg: Cfg, on: Bool[Array, ""]) -> Task:
        def init(key: PRNGKeyArray) -> Params:
            params = task.init(key)
            return jax.tree.map(jnp.divide, params, self._scales(params, cfg, on))

        def up(params: Params) -> Params:
            return jax.tree.map(jnp.multiply, params, self._scales(params, cfg, on))

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            return task.loss(up(params), key, batch)

        inner = optax.with_extra_args_support(task.gradient)

        def update(updates, state, params=None, **extra):
            scales = self._scales(updates, cfg, on)
            if params is not None:
                params = jax.tree.map(jnp.multiply, params, scales)
            updates = jax.tree.map(jnp.divide, updates, scales)
            updates, state = inner.update(updates, state, params, **extra)
            return jax.tree.map(jnp.multiply, updates, scales), state

        return task._replace(
            init=init,
            loss=loss,
            gradient=optax.GradientTransformationExtraArgs(
                lambda params: inner.init(up(params)),
                update,  # pyright: ignore[reportArgumentType]
            ),
        )


@dataclass(frozen=True)
class LossScale:
    """The loss, its lower bound and what distorts its gradient, times a log-uniform number."""

    per_family: ClassVar[bool] = False
    needs_lower_bound: ClassVar[bool] = False
    probability: float = 1.0
    range: tuple[float, float] = (1e-3, 1e3)

    def __post_init__(self):
        check_probability(self.probability)
        check_range("range", self.range)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return log_uniform(key, self.range)

    def wrap(self, task: Task, cfg: Cfg, on: Bool[Array, ""]) -> Task:
        scale = jnp.where(on, cfg, 1.0)
        inner = optax.with_extra_args_support(task.gradient)

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            return scale * task.loss(params, key, batch)

        def update(updates, state, params=None, **extra):
            updates = jax.tree.map(lambda leaf: leaf / scale, updates)
            updates, state = inner.update(updates, state, params, **extra)
            return jax.tree.map(lambda leaf: leaf * scale, updates), state

        bound = task.lower_bound
        return task._replace(
            loss=loss,
            lower_bound=None if bound is None else scale * jnp.asarray(bound, jnp.float32),
            gradient=optax.GradientTransformationExtraArgs(inner.init, update),  # pyright: ignore
        )


@dataclass(frozen=True)
class LogObjective:
    """log(loss - lower_bound + 1e-6) - log 1e-6, whose lower bound is 0 (1703.04813).

    What distorts the task's gradient acts on the gradient of the logarithm.
    """

    per_family: ClassVar[bool] = False
    needs_lower_bound: ClassVar[bool] = True
    probability: float = 1.0

    def __post_init__(self):
        check_probability(self.probability)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        del key
        return ()

    def wrap(self, task: Task, cfg: Cfg, on: Bool[Array, ""]) -> Task:
        del cfg
        bound = jnp.asarray(task.lower_bound, jnp.float32)

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            value = task.loss(params, key, batch)
            above = jnp.maximum(value - bound, 0.0)
            return jnp.where(on, jnp.log1p(above / _LOG_FLOOR), value)

        return task._replace(loss=loss, lower_bound=jnp.where(on, 0.0, bound))


@dataclass(frozen=True)
class Bfloat16:
    """The loss of parameters and batches rounded to bfloat16, as a float32 number.

    What meets float32 arrays of the task (a drawn matrix, images stored as bytes) goes on in
    float32, as JAX promotes. On for whole families: one program has one arithmetic.
    """

    per_family: ClassVar[bool] = True
    needs_lower_bound: ClassVar[bool] = False
    probability: float = 1.0

    def __post_init__(self):
        check_probability(self.probability)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        del key
        return ()

    def wrap(self, task: Task, cfg: Cfg, on: Bool[Array, ""]) -> Task:
        del cfg, on

        def low(values: Params | Batch) -> Params | Batch:
            return jax.tree.map(
                lambda x: x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.floating) else x,
                values,
            )

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            value = task.loss(low(params), key, low(batch)).astype(jnp.float32)
            if task.lower_bound is None:
                return value
            # Rounding may fall below the bound; the slope stays that of the loss.
            least = jnp.asarray(task.lower_bound, jnp.float32)
            return jnp.where(value < least, least + (value - jax.lax.stop_gradient(value)), value)

        return task._replace(loss=loss)
