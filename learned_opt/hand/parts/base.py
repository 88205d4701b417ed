"""What a part is, and where in an optimizer it belongs."""

import inspect
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from learned_opt.base import Params
from learned_opt.hand.hyperparameters import HYPERPARAMETERS, Hyperparameter
from learned_opt.hand.paths import check_pattern, path_of
from learned_opt.naming import check_name

# In the order in which a gradient meets them. `direction`, `outside` and `outermost` are wrappers.
Place = Literal["outermost", "outside", "gradient", "direction", "step", "update"]
Mask = str | Mapping[str, Any]  # a name of MASKS, or {"match": regular expression}

MASKS: dict[str, Callable[[Params], Any]] = {
    "all": lambda params: jax.tree.map(lambda p: True, params),
    "matrices": lambda params: jax.tree.map(lambda p: jnp.ndim(p) >= 2, params),
}
FIELDS = HYPERPARAMETERS | {"value": HYPERPARAMETERS["weight_decay"]}  # what fields may be


class Part(NamedTuple):
    """Something orthogonal to the rule it is put into.

    place: `gradient` before the direction, `direction` a wrapper of it, `step` between direction
    and learning rate, `update` after the rate, with the final sign; `outside` and `outermost` wrap
    the whole. make: **fields -> transformation; wrappers take the inner one first. about: one line.
    needs: what `update` must be given, as HandDesigned.needs. ranges: of its own continuous fields.
    """

    place: Place
    make: Callable[..., optax.GradientTransformation]
    about: str
    source: str = ""
    needs: tuple[str, ...] = ()
    ranges: Mapping[str, Hyperparameter] = MappingProxyType({})

    @property
    def wraps(self) -> bool:
        return self.place in ("direction", "outside", "outermost")

    @property
    def defaults(self) -> dict[str, Any]:
        """Its fields, with their defaults."""
        fields = list(inspect.signature(self.make).parameters.values())[self.wraps :]
        return {field.name: field.default for field in fields}

    @property
    def controls(self) -> dict[str, Hyperparameter]:
        """Its continuous fields, with the ranges in which to search or steer them."""
        known = FIELDS | dict(self.ranges)
        floats = [name for name, value in self.defaults.items() if isinstance(value, float)]
        return {name: known[name] for name in floats if name in known}


def masked(tx: optax.GradientTransformation, mask: Mask) -> optax.GradientTransformation:
    """`tx` on the leaves that a mask picks. Raises ValueError for one that there is not."""
    return tx if mask == "all" else optax.masked(tx, picked(mask))


def picked(mask: Mask) -> Callable[[Params], Any]:
    """parameters -> tree that says which leaves a mask picks. Raises ValueError."""
    if isinstance(mask, str):
        check_name("mask", mask, MASKS)
        return MASKS[mask]
    if {*mask} != {"match"}:
        raise ValueError(
            f"mask: {dict(mask)} is not allowed; it must be one of {', '.join(sorted(MASKS))} or "
            "{match: regular expression}"
        )
    pattern = check_pattern("mask.match", mask["match"])

    def matching(params: Params) -> Any:
        found = lambda path, leaf: re.search(pattern, path_of(path)) is not None
        return jax.tree_util.tree_map_with_path(found, params)

    return matching


def units(x: Array) -> tuple[int, ...]:
    """The axes of one output unit's weights: all but the last, or all where there is one or none.

    Kernels are laid out as in flax: the last axis is the output.
    """
    return tuple(range(x.ndim - 1)) if x.ndim >= 2 else tuple(range(x.ndim))


def check_count(what: str, value: Any) -> None:
    """Raises ValueError unless `value` is an integer of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{what}: {value!r} is not allowed; it must be an integer, at least 1")
