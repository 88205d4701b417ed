"""Other optimizers than CIAO under a controller; statistics come from averages kept beside."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from learned_opt.base import Params
from learned_opt.columns import is_trained, tame
from learned_opt.controller.actions import Table, Values
from learned_opt.hand.ciao import DEFAULTS, Quantities
from learned_opt.hand.ciao_options import ema
from learned_opt.hand.hyperparameters import Scalar

# What a controller calls a hyperparameter that optimizers have as its complement.
COMPLEMENTS = {"one_minus_b1": "b1", "one_minus_b2": "b2"}


class Shadow(NamedTuple):
    """CIAO's averages of the gradients, for statistics alone; zeros where nothing is trained."""

    momentum: Params
    scale: Params  # decaying maximum of |g|
    weight: Float[Array, ""]  # of all gradients in the momentum

    @staticmethod
    def start(params: Params) -> "Shadow":
        zeros = lambda: jax.tree.map(lambda p: jnp.zeros(jnp.shape(p), jnp.float32), params)
        return Shadow(zeros(), zeros(), jnp.zeros(()))

    def seeing(self, gradients: Params, hyper: Mapping[str, Scalar]) -> "Shadow":
        small, fading = (
            hyper.get(name, DEFAULTS[name]) for name in ("one_minus_b1", "one_minus_b2")
        )
        momentum = jax.tree.map(lambda m, g: ema(m, g, small), self.momentum, gradients)
        larger = lambda s, g: jnp.maximum(s - fading * s, jnp.abs(g))
        scale = jax.tree.map(larger, self.scale, gradients)
        return Shadow(momentum, scale, ema(self.weight, 1.0, small))


class DrivenState(NamedTuple):
    state: Any  # of the optimizer
    shadow: Shadow


@dataclass(frozen=True)
class HandDriven:
    """A hand-designed optimizer with its hyperparameters in its state, as of `registry.inject`.

    eps: what denominators are compared with where eps is not controlled.
    """

    tx: optax.GradientTransformationExtraArgs
    eps: float

    def init(self, params: Params) -> DrivenState:
        return DrivenState(self.tx.init(params), Shadow.start(params))

    def step(
        self,
        gradients: Params,
        state: DrivenState,
        params: Params,
        hyper: Mapping[str, Scalar],
        extra: Mapping[str, Any],
    ) -> tuple[Params, DrivenState, Quantities]:
        own: Any = state.state
        given = {
            COMPLEMENTS.get(name, name): 1.0 - value if name in COMPLEMENTS else value
            for name, value in hyper.items()
        }
        given = {name: jnp.asarray(x, own.hyperparams[name].dtype) for name, x in given.items()}
        own = own._replace(hyperparams={**own.hyperparams, **given})
        updates, own = self.tx.update(gradients, own, params, **extra)
        shadow, quantities = _shown(gradients, updates, state.shadow, params, hyper)
        return updates, DrivenState(own, shadow), quantities


@dataclass(frozen=True)
class LearnedDriven:
    """A learned rule whose updates are scaled by learning_rate / start."""

    tx: optax.GradientTransformationExtraArgs
    start: float
    eps: float = DEFAULTS["eps"]

    def init(self, params: Params) -> DrivenState:
        return DrivenState(self.tx.init(params), Shadow.start(params))

    def step(
        self,
        gradients: Params,
        state: DrivenState,
        params: Params,
        hyper: Mapping[str, Scalar],
        extra: Mapping[str, Any],
    ) -> tuple[Params, DrivenState, Quantities]:
        updates, own = self.tx.update(gradients, state.state, params, **extra)
        by = hyper["learning_rate"] / self.start
        updates = jax.tree.map(
            lambda u, p: (by * u).astype(jnp.result_type(p)) if is_trained(p) else u,
            updates,
            params,
        )
        shadow, quantities = _shown(gradients, updates, state.shadow, params, hyper)
        return updates, DrivenState(own, shadow), quantities


def controlled(table: Table, owned: Mapping[str, float]) -> Values:
    """The values of those hyperparameters of the table that an optimizer owns, as the table has
    them; what is not above 0 no factor moves, so it is left alone."""
    found = {}
    for action in table:
        name = COMPLEMENTS.get(action.name, action.name)
        if name in owned:
            value = 1.0 - owned[name] if action.name in COMPLEMENTS else owned[name]
            if value > 0.0:
                found[action.name] = jnp.float32(value)
    return found


def _shown(
    gradients: Params,
    updates: Params,
    shadow: Shadow,
    params: Params,
    hyper: Mapping[str, Scalar],
) -> tuple[Shadow, Quantities]:
    """The averages after this step, and what the step was made of."""
    own = lambda x, p: (
        tame(jnp.asarray(x, jnp.float32)) if is_trained(p) else jnp.zeros(jnp.shape(p))
    )
    gradients = jax.tree.map(own, gradients, params)
    shadow = shadow.seeing(gradients, hyper)
    rate = jnp.asarray(hyper["learning_rate"], jnp.float32)
    return shadow, Quantities(
        gradients=gradients,
        momentum=jax.tree.map(lambda m: m / shadow.weight, shadow.momentum),
        scale=shadow.scale,
        direction=jax.tree.map(lambda u, p: own(u, p) / -rate, updates, params),
        rate=jax.tree.map(lambda p: rate, params),
        clipped=jnp.zeros((), bool),
    )
