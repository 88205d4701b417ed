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
Body = Callable[[Any, Any, Any], tuple[Any, Any, Any]]


def from_first_task(x: Array) -> Array:
    """What a family's first task holds, for all its tasks; needs the axes TASKS and AXIS."""
    first = (jax.lax.axis_index(TASKS) == 0) & (jax.lax.axis_index(AXIS) == 0)
    return jax.lax.psum(jnp.where(first, x, 0), (TASKS, AXIS))


@dataclass(frozen=True)
class Parallel:
    """How the tasks of a family spread: `devices` shards, each along the leading axis.

    pmap and shard_map put a shard on each device; vmap keeps all of them on one, for debugging.
    devices: of all processes together.
    """

    backend: Literal["pmap", "shard_map", "vmap"] = "shard_map"
    devices: int = 1

    def __post_init__(self) -> None:
        available, processes = jax.device_count(), jax.process_count()
        if self.backend == "vmap":
            if processes > 1:
                raise ValueError("parallel.backend: vmap is for one process; use pmap or shard_map")
            return
        if not 1 <= self.devices <= available:
            raise ValueError(
                f"parallel.devices: {self.devices} must be between 1 and the {available} devices "
                f"JAX sees here; set parallel.devices={available}"
            )
        if self.devices % processes:
            raise ValueError(
                f"parallel.devices: {self.devices} does not divide over {processes} processes, "
                f"which have {available} devices in all"
            )

    @property
    def mesh(self) -> Mesh:
        """The devices of all processes in the order of the shards, as many from each."""
        if self.backend == "vmap":
            return self._local_mesh
        own = self.devices // jax.process_count()
        devices = [
            device
            for process in range(jax.process_count())
            for device in jax.local_devices(process_index=process)[:own]
        ]
        return Mesh(np.asarray(devices), (AXIS,))

    @property
    def _local_mesh(self) -> Mesh:
        own = 1 if self.backend == "vmap" else self.devices // jax.process_count()
        return Mesh(np.asarray(jax.local_devices()[:own]), (AXIS,))

    def replicate(self, tree: Any) -> Any:
        """Puts a copy of every array on each device; pmap's are each process' own."""
        mesh = self._local_mesh if self.backend == "pmap" else self.mesh
        return _place(tree, NamedSharding(mesh, PartitionSpec()))

    def shard(self, tree: Any) -> Any:
        """Puts one slice of every array's leading axis on each device."""
        return _place(tree, NamedSharding(self.mesh, PartitionSpec(AXIS)))

    def compile(self, body: Body, donate: bool = True) -> Body:
        """body(shared, local, data) -> (shared, local, metrics), over all shards at once.

        body sees one shard of `local` and may use collectives over AXIS; what it returns as shared
        and metrics must be equal on all shards. donate: what is given as `local` is used up.
        """
        used_up = (1,) if donate else ()
        if self.backend == "pmap":
            mapped = jax.pmap(
                body,
                AXIS,
                in_axes=(None, 0, None),
                out_axes=(None, 0, None),
                devices=self.mesh.devices.tolist(),
                donate_argnums=used_up,
            )
            return mapped if jax.process_count() == 1 else self._of_own_shards(mapped)
        if self.backend == "vmap":
            mapped = jax.vmap(
                body, in_axes=(None, 0, None), out_axes=(None, 0, None), axis_name=AXIS
            )
            return jax.jit(mapped, donate_argnums=used_up)

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
        return jax.jit(mapped, donate_argnums=used_up)

    def _of_own_shards(self, mapped: Body) -> Body:
        """pmap takes the shards of its process only; every other part of a run takes all."""
        near, everywhere = (
            NamedSharding(mesh, PartitionSpec(AXIS)) for mesh in (self._local_mesh, self.mesh)
        )

        def recast(leaf: jax.Array, sharding: NamedSharding) -> jax.Array:
            shape = (sharding.mesh.size, *leaf.shape[1:])
            parts = [shard.data for shard in leaf.addressable_shards]
            return jax.make_array_from_single_device_arrays(shape, sharding, parts)

        def run(shared: Any, local: Any, data: Any):
            local = jax.tree.map(lambda leaf: recast(leaf, near), local)
            shared, local, metrics = mapped(shared, local, data)
            return shared, jax.tree.map(lambda leaf: recast(leaf, everywhere), local), metrics

        return run


def _place(tree: Any, sharding: NamedSharding) -> Any:
    """Puts arrays that every process holds whole, or that lie on all devices, where they belong."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def place(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = place(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(place, tree)


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
