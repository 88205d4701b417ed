"""What every optimizer here is: a family of optax transformations indexed by theta."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PRNGKeyArray

Params = Any  # pytree of arrays: the weights of the network being trained
Theta = Any  # pytree of arrays: the weights of the optimizer itself
Horizon = int | Int[Array, ""]

DEFAULT_NUM_STEPS = 10_000


@runtime_checkable
class LearnedOptimizer(Protocol):
    """An optimizer with weights; a hand-designed one has its hyperparameters as weights.

    Implementations are frozen dataclasses of static choices, so they hash and never hold arrays. A
    rule that reads a validation loss has the class attribute `reads_eval_value = True`: it is given
    `eval_value=` beside `value=`, where NaN means that there is none this step. One that moves
    parameters in several ways names each one's by `labels(params)`, and `opt` takes `labels=`. One
    with a form for runs of unknown length has `anytime = True`, and `opt` takes horizon None.
    """

    def init(self, key: PRNGKeyArray) -> Theta:
        """Fresh weights theta, drawn with `key`."""
        ...

    def opt(
        self,
        theta: Theta,
        horizon: Horizon,
        key: PRNGKeyArray | None = None,
        learning_rate: float | Array | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        """The update rule for one training run of `horizon` steps (at least 1, may be traced).

        `key` draws what the rule randomises at its start (without it, the default is taken);
        `learning_rate` replaces the rule's own starting rate where it has one.
        """
        ...


def is_anytime(rule: LearnedOptimizer) -> bool:
    """Whether the rule has a form for runs without a known length."""
    return getattr(rule, "anytime", False)


def reads_eval_value(rule: LearnedOptimizer) -> bool:
    """Whether updates of this rule are to be given a validation loss."""
    return getattr(rule, "reads_eval_value", False)


class EvalPoint(NamedTuple):
    """Marks, inside an optimizer state, the parameters to evaluate in place of the user's."""

    params: Params


def _is_eval_point(node: Any) -> bool:
    return isinstance(node, EvalPoint)


def _ends_search(node: Any) -> bool:
    """Places to go back to are no part of where a run is."""
    return _is_eval_point(node) or getattr(type(node), "is_put_aside", False)


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def has_eval_point(state: Any) -> bool:
    """Whether `eval_params` gives other parameters than the user's for this state."""
    return any(map(_is_eval_point, jax.tree.leaves(state, is_leaf=_ends_search)))


def eval_params(state: Any, params: Params) -> Params:
    """The parameters to evaluate and to save, found anywhere inside `state`.

    Rules with a lookahead point take their gradients at `params` and keep the point that counts in
    the state; for all others this is `params` itself. Works through optax.chain, masked, partition,
    MultiSteps, apply_if_finite and inject_hyperparams, and passes over what has the class attribute
    `is_put_aside = True`.
    """
    for node in jax.tree.leaves(state, is_leaf=_ends_search):
        if _is_eval_point(node):
            params = jax.tree.map(
                lambda point, p: p if _is_masked(point) else jnp.asarray(point, p.dtype),
                node.params,
                params,
                is_leaf=_is_masked,
            )
    return params
