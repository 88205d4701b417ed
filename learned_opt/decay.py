"""Weight decay for rules whose updates are finished: in units of their own steps."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from learned_opt.anchors.base import tensor_size
from learned_opt.base import Params, has_eval_point
from learned_opt.columns import is_trained


def decayed(
    name: str, tx: optax.GradientTransformationExtraArgs, weight_decay: float
) -> optax.GradientTransformationExtraArgs:
    """`tx`, whose every step u on a tensor p of rank 2 and above also shrinks the tensor.

    p <- p + u - weight_decay * RMS(u) / max(RMS(p), 0.05) * p: the decay is `weight_decay` times as
    long as the step. Where steps are relative to the tensor, as those of `relative_adam`, it has
    their rate and their schedule. name: of the weights, for the message. `init` raises ValueError
    for a rule with a lookahead point.
    """

    def init(params: Params) -> Any:
        state = tx.init(params)
        if has_eval_point(state):
            raise ValueError(
                f"weight_decay: {name} takes none; it keeps the parameters that count in its "
                "state, where a decay of those in the loop would not reach them"
            )
        return state

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        if params is None:
            raise ValueError("params: weight decay reads them, pass params")
        updates, state = tx.update(updates, state, params, **extra)
        shrunk = lambda u, p: u - _shrinkage(weight_decay, u, p) if _is_matrix(p) else u
        return jax.tree.map(shrunk, updates, params), state

    return optax.GradientTransformationExtraArgs(init, update)


def _is_matrix(param: Any) -> bool:
    return jnp.ndim(param) >= 2 and is_trained(param)


def _shrinkage(
    weight_decay: float, update: Float[Array, "*s"], param: Float[Array, "*s"]
) -> Float[Array, "*s"]:
    step = jnp.sqrt(jnp.mean(jnp.square(update.astype(jnp.float32))))
    share = weight_decay * step / tensor_size(param)
    return (share * param).astype(update.dtype)
