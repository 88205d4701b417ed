"""One LSTM for every tensor of a network, in which each sees what the others have to say."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.learned.parts.cells import affine, init_linear, init_lstm, lstm


class Recurrent(NamedTuple):
    """The state of the LSTM, a column for each tensor."""

    hidden: Float[Array, "k t"]
    cell: Float[Array, "k t"]

    @staticmethod
    def start(weights: dict[str, Any], tensors: int) -> "Recurrent":
        """The learned first state, the same for all tensors."""
        columns = jax.tree.map(lambda x: jnp.tile(x[:, None], (1, tensors)), weights["start"])
        return Recurrent(columns["hidden"], columns["cell"])


def init_controller(key: PRNGKeyArray, inputs: int, hidden: int, controls: int) -> dict[str, Any]:
    """Weights of `control`, as haiku draws them; controls: rows of its first output, 0 for none.

    The published trees hold the layer `unread`, whose output the original code overwrites: kept,
    so that weights come and go without loss.
    """
    keys = jax.random.split(key, 6)
    weights = {
        "start": {"hidden": jnp.zeros(hidden), "cell": jnp.zeros(hidden)},
        "unread": init_linear(keys[0], inputs, hidden),
        "message": init_linear(keys[1], inputs, hidden),
        "own": init_linear(keys[2], inputs, hidden),
        "lstm": init_lstm(keys[3], hidden, hidden),
        "step_size": init_linear(keys[4], hidden, 1),
    }
    return weights | ({"controls": init_linear(keys[5], hidden, controls)} if controls else {})


def control(
    weights: dict[str, Any], x: Float[Array, "i t"], state: Recurrent
) -> tuple[Float[Array, " t"], Recurrent]:
    """What every tensor's step is multiplied by, before any nonlinearity, and the new state.

    Tensors receive the largest of all messages, row by row (2211.09760). Other outputs for a
    tensor are read from the new hidden state.
    """
    received = jax.nn.relu(affine(weights["message"], x)).max(axis=1, keepdims=True, initial=0.0)
    state = Recurrent(*lstm(weights["lstm"], affine(weights["own"], x) + received, state))
    return affine(weights["step_size"], state.hidden)[0], state
