"""Joins devices: one body with a named axis, run by pmap, shard_map or vmap."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

AXIS = "data"  # over shards
TASKS = "tasks"  # over the tasks of a family on one shard
BACKENDS = ("pmap", "shard_map", "vmap")
Body = Callable[[Any, Any, Any], tuple[Any, Any, Any]]


def from_first_task(x: Array) -> Array:
    """What a family's first task holds, for all its tasks; needs the axes TASKS and AXIS."""
    first = (jax.lax.axis_index(TASKS) == 0) & (jax.lax.axis_index(AXIS) == 0)
    return jax.lax.psum(jnp.where(first, x, 0), (TASKS, AXIS))


@dataclass(frozen=True)
class Parallel:
    """How the tasks of a family spread: `devices` shards, each along the leading axis.

    pmap and shard_map put a shard on each device; vmap keeps all of them on one, for debugging.
    """

    backend: Literal["pmap", "shard_map", "vmap"] = "shard_map"
    devices: int = 1

    def __post_init__(self) -> None:
        available = jax.device_count()
        if self.backend != "vmap" and not 1 <= self.devices <= available:
            raise ValueError(
                f"parallel.devices: {self.devices} must be between 1 and the {available} devices "
                f"JAX sees here; set parallel.devices={available}"
            )

    @property
    def mesh(self) -> Mesh:
        count = 1 if self.backend == "vmap" else self.devices
        return Mesh(np.asarray(jax.devices()[:count]), (AXIS,))

    def replicate(self, tree: Any) -> Any:
        """Puts a copy of every array on each device."""
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def shard(self, tree: Any) -> Any:
        """Puts one slice of every array's leading axis on each device."""
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec(AXIS)))

    def compile(self, body: Body) -> Body:
        """body(shared, local, data) -> (shared, local, metrics), over all shards at once.

        body sees one shard of `local` and may use collectives over AXIS; what it returns as shared
        and metrics must be equal on all shards. `local` is donated.
        """
        if self.backend == "pmap":
            return jax.pmap(
                body,
                AXIS,
                in_axes=(None, 0, None),
                out_axes=(None, 0, None),
                devices=self.mesh.devices.tolist(),
                donate_argnums=1,
            )
        if self.backend == "vmap":
            mapped = jax.vmap(
                body, in_axes=(None, 0, None), out_axes=(None, 0, None), axis_name=AXIS
            )
            return jax.jit(mapped, donate_argnums=1)

        def on_shard(shared: Any, local: Any, data: Any):
            shared, local, metrics = body(shared, jax.tree.map(lambda x: x[0], local), data)
            return shared, jax.tree.map(lambda x: x[None], local), metrics

        everywhere, split = PartitionSpec(), PartitionSpec(AXIS)
        mapped = jax.shard_map(
            on_shard,
            mesh=self.mesh,
            in_specs=(everywhere, split, everywhere),
            out_specs=(everywhere, split, everywhere),
            check_vma=False,
        )
        return jax.jit(mapped, donate_argnums=1)


def is_spread(leaf: Any) -> bool:
    """Whether `Parallel.shard` placed this array: its leading axes are shard and task."""
    sharding = leaf.sharding if isinstance(leaf, jax.Array) else None
    return isinstance(sharding, NamedSharding) and sharding.spec[:1] == (AXIS,)


def pieces(leaf: jax.Array) -> list[tuple[int, np.ndarray]]:
    """Copies of the rows that this process holds, each with the number of its first row."""
    return [
        (shard.index[0].start or 0, np.array(shard.data))
        for shard in leaf.addressable_shards
        if shard.replica_id == 0
    ]
