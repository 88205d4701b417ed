"""What a part is, and where in an optimizer it belongs."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import Params
from learned_opt.naming import check_name

# In the order in which a gradient meets them. `direction`, `outside` and `outermost` are wrappers.
Place = Literal["outermost", "outside", "gradient", "direction", "step", "update"]

MASKS: dict[str, Callable[[Params], Any]] = {
    "all": lambda params: jax.tree.map(lambda p: True, params),
    "matrices": lambda params: jax.tree.map(lambda p: jnp.ndim(p) >= 2, params),
}


class Part(NamedTuple):
    """Something orthogonal to the rule it is put into.

    place: `gradient` before the direction, `direction` a wrapper of it, `step` between direction
    and learning rate, `update` after the rate, with the final sign; `outside` and `outermost` wrap
    the whole. make: **fields -> transformation; wrappers take the inner one first. about: one line.
    decay: whether it is a kind of weight decay, whose first field is then `value`.
    """

    place: Place
    make: Callable[..., optax.GradientTransformation]
    about: str
    source: str = ""
    decay: bool = False

    @property
    def wraps(self) -> bool:
        return self.place in ("direction", "outside", "outermost")


def masked(tx: optax.GradientTransformation, mask: str) -> optax.GradientTransformation:
    """`tx` on the leaves that a mask of MASKS picks. Raises ValueError for an unknown one."""
    check_name("mask", mask, MASKS)
    return tx if mask == "all" else optax.masked(tx, MASKS[mask])
