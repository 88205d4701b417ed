"""What an entry of the table of hand-designed optimizers is."""

import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from learned_opt.base import Horizon, Theta
from learned_opt.hand.hyperparameters import (
    HYPERPARAMETERS,
    Hyperparameter,
    check_hyperparameters,
)

# What an update may ask for beside gradients and state: argument -> what it is.
EXTRAS = {
    "params": "the parameters: tx.update(grads, state, params)",
    "value": "the loss: tx.update(grads, state, params, value=loss)",
    "obj_fn": "the loss as a function of the parameters: obj_fn=lambda params: ...",
    "sampled_gradient": "the gradient for labels that the model drew: sampled_gradient=...",
    "n_items": "the number of examples in the minibatch: n_items=...",
}
Extra = Literal["params", "value", "obj_fn", "sampled_gradient", "n_items"]
FIRST = ("learning_rate", "horizon")


@dataclass(frozen=True)
class HandDesigned:
    """A hand-designed optimizer as a LearnedOptimizer: theta is its hyperparameters.

    make: (learning_rate, horizon, **hyperparameters in optax's spelling) -> transformation; all of
    them may be traced unless their default is no float. learning_rate: the default. source: paper.
    formula: the update in a line. needs: what `update` must be given. ranges: where this rule's
    hyperparameters differ from HYPERPARAMETERS. chosen: hyperparameters fixed to other values than
    their defaults, as JSON, so that entries hash. anytime: `make` takes horizon None, for a run
    without a known length.
    """

    name: str
    make: Callable[..., optax.GradientTransformation]
    learning_rate: float
    source: str = ""
    formula: str = ""
    needs: tuple[Extra, ...] = ()
    ranges: tuple[tuple[str, Hyperparameter], ...] = ()
    chosen: str = "{}"
    anytime: bool = False

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Every hyperparameter but the learning rate, with its default."""
        parameters = inspect.signature(self.make).parameters.values()
        found = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
        return {name: found[name] for name in found if name not in FIRST} | json.loads(self.chosen)

    @property
    def controls(self) -> dict[str, Hyperparameter]:
        """The continuous hyperparameters, with the ranges in which to search or steer them."""
        known = HYPERPARAMETERS | dict(self.ranges)
        floats = [name for name, value in self.defaults.items() if isinstance(value, float)]
        return {name: known[name] for name in ("learning_rate", *floats) if name in known}

    @property
    def static(self) -> tuple[str, ...]:
        """The hyperparameters that shape the program: they cannot be traced."""
        return tuple(n for n, value in self.defaults.items() if not isinstance(value, float))

    def including(self, **chosen: Any) -> "HandDesigned":
        """The entry with these hyperparameters in place of its defaults. Raises ValueError."""
        chosen = dict(chosen)
        self.check(chosen)
        rate = chosen.pop("learning_rate", self.learning_rate)
        text = json.dumps(json.loads(self.chosen) | chosen, sort_keys=True)
        return dataclasses.replace(self, learning_rate=rate, chosen=text)

    def check(self, hyperparameters: Mapping[str, Any]) -> None:
        """Raises ValueError for unknown hyperparameters and for numbers out of bounds."""
        accepted = {"learning_rate": self.learning_rate} | self.defaults
        check_hyperparameters(
            self.name, hyperparameters, accepted, HYPERPARAMETERS | dict(self.ranges)
        )

    def build(
        self, learning_rate: Any, horizon: Horizon | None, **hyperparameters: Any
    ) -> optax.GradientTransformationExtraArgs:
        """The transformation; values may be traced, so their bounds are not checked here."""
        every = json.loads(self.chosen) | hyperparameters
        return _guarded(self, self.make(learning_rate, horizon, **every))

    def init(self, key: PRNGKeyArray) -> Theta:
        del key
        return {"log_learning_rate": jnp.log(jnp.float32(self.learning_rate))}

    def opt(
        self,
        theta: Theta,
        horizon: Horizon,
        key: PRNGKeyArray | None = None,
        learning_rate: float | Array | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        """theta: `log_learning_rate`, and any other hyperparameters in their own units.

        With `learning_rate` given, theta may be without one.
        """
        del key
        hyperparameters = dict(theta)
        log_rate = hyperparameters.pop("log_learning_rate", None)
        rate = jnp.exp(log_rate) if learning_rate is None else learning_rate
        return self.build(rate, horizon, **hyperparameters)

    def state_bytes(self, params: Any = None) -> float:
        """Bytes of state for each parameter. params: float32 (256, 512) and (512,) by default."""
        if params is None:
            shapes = {"kernel": (256, 512), "bias": (512,)}
            params = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes.items()}
        state = jax.eval_shape(self.build(self.learning_rate, 1000).init, params)
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
        return size / sum(leaf.size for leaf in jax.tree.leaves(params))


def check_given(owner: str, needs: Sequence[str], given: Mapping[str, Any]) -> None:
    """Raises ValueError for an argument of EXTRAS that `owner` needs and that is not given."""
    for name in needs:
        if given.get(name) is None:
            raise ValueError(f"{name}: {owner} needs {EXTRAS[name]}")


def _guarded(
    entry: HandDesigned, tx: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    """`tx` on half-precision parameters, computed and its state kept in float32.

    An average with b2 = 0.999 stands still in bfloat16. Raises ValueError where an argument that
    the entry needs is not given.
    """
    inner = optax.with_extra_args_support(tx)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any):
        check_given(entry.name, entry.needs, {"params": params} | extra)
        found, state = inner.update(_wide(updates), state, _wide(params), **extra)
        return jax.tree.map(_as_narrow, found, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: inner.init(_wide(params)), update)


HALVES = (jnp.bfloat16, jnp.float16)


def _wide(tree: Any) -> Any:
    return jax.tree.map(
        lambda x: jnp.asarray(x, jnp.float32) if jnp.result_type(x) in HALVES else x, tree
    )


def _as_narrow(update: Any, gradient: Any) -> Any:
    narrow = jnp.result_type(gradient)
    return jnp.asarray(update, narrow) if narrow in HALVES else update
