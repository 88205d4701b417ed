"""Places where a controller keeps a run to go back to."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from learned_opt.controller.leaves import Leaves, select


class Snapshot(NamedTuple):
    """What is restored together: neither hyperparameters nor time, so going back costs budget."""

    is_put_aside = True  # for eval_params

    params: Leaves
    inner: Any  # state of the inner optimizer
    eval_loss: Float[Array, "*batch"]  # last one known of these parameters; NaN: none
    progress: Float[Array, "*batch"]  # of the run when it was saved, 0 to 1

    @property
    def filled(self) -> Bool[Array, "*batch"]:
        """Whether there is something to go back to: its loss is known and finite."""
        return jnp.isfinite(self.eval_loss)


Registers = tuple[Snapshot, ...]


def operate(
    op: Int[Array, ""], here: Snapshot, registers: Registers
) -> tuple[Snapshot, Registers, Bool[Array, ""]]:
    """(where the run goes on, the registers, whether that is another place) after operation `op`.

    op: 0 is nothing; then save, load and swap of the first register, of the second, and so on.
    Loading or swapping an empty register does nothing, nor does saving what has no finite loss.
    """
    kept, moved = [], jnp.zeros((), bool)
    for r, register in enumerate(registers):
        save, load, swap = (op == 1 + 3 * r + i for i in range(3))
        goes = (load | swap) & register.filled
        stays = (save & here.filled) | (swap & register.filled)
        kept.append(select(stays, here, register))
        here = select(goes, register, here)
        moved = moved | goes
    return here, tuple(kept), moved
