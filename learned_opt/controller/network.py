"""The controller's network: a dense layer, an LSTM that steps once a pause, residual heads.

Weights are dicts of arrays; a network that values states is one of the same shape with one output.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from learned_opt.base import Theta

LARGEST_INPUT = 2.0  # in standard deviations
SMALLEST_VARIANCE = 1e-5


class Normaliser(NamedTuple):
    """Running mean and variance of every input, moved once per batch."""

    mean: Float[Array, "*batch features"]
    variance: Float[Array, "*batch features"]
    weight: Float[Array, "*batch"]  # of all batches so far; the first counts in full

    @staticmethod
    def start(features: int) -> "Normaliser":
        """Leaves inputs as they are."""
        return Normaliser(jnp.zeros(features), jnp.ones(features), jnp.zeros(()))

    def seeing(
        self, x: Float[Array, "*n features"], mask: Bool[Array, "*n"], decay: float | Array
    ) -> "Normaliser":
        """After a batch; entries where `mask` is False do not count. decay: in [0, 1)."""
        x, counts = x.reshape(-1, x.shape[-1]), mask.reshape(-1, 1)
        total = jnp.maximum(jnp.sum(counts), 1)
        average = lambda terms: jnp.sum(jnp.where(counts, terms, 0.0), 0) / total
        mean = average(x)
        variance = average(jnp.square(x - mean))
        weight = decay * self.weight + (1.0 - decay)
        share = jnp.where(jnp.any(counts), (1.0 - decay) / weight, 0.0)
        away = mean - self.mean
        spread = (1.0 - share) * (self.variance + share * jnp.square(away)) + share * variance
        weight = jnp.where(jnp.any(counts), weight, self.weight)
        return Normaliser(self.mean + share * away, spread, weight)

    def __call__(self, x: Float[Array, "*n features"]) -> Float[Array, "*n features"]:
        """In standard deviations, at most 2 of them."""
        scale = jnp.sqrt(jnp.maximum(self.variance, 0.0) + SMALLEST_VARIANCE)
        return jnp.clip((x - self.mean) / scale, -LARGEST_INPUT, LARGEST_INPUT)


class Recurrent(NamedTuple):
    """The state of the LSTM."""

    hidden: Float[Array, "*batch units"]
    cell: Float[Array, "*batch units"]


@dataclass(frozen=True)
class Network:
    """The static choices of one network.

    inputs: features. outputs: of every head. dense, lstm, trunk: units before the LSTM, of it and
    after it. layer_norm: of the LSTM's gates. last: the scale of a head's last layer; small, so
    that a policy starts uniform.
    """

    inputs: int
    outputs: tuple[int, ...]
    dense: int = 64
    lstm: int = 64
    trunk: int = 64
    layer_norm: bool = False
    last: float = 0.01

    def init(self, key: PRNGKeyArray) -> Theta:
        """Weights of size 1 / sqrt(inputs), zero biases; the forget gate's is 1."""
        keys = iter(jax.random.split(key, 3 + 3 * len(self.outputs)))
        gates = _init_dense(next(keys), self.dense + self.lstm, 4 * self.lstm)
        gates["b"] = gates["b"].at[self.lstm : 2 * self.lstm].set(1.0)
        if self.layer_norm:
            gates["gain"] = jnp.ones((4, self.lstm))
        return {
            "dense": _init_dense(next(keys), self.inputs, self.dense),
            "lstm": gates,
            "trunk": _init_dense(next(keys), self.lstm, self.trunk),
            "heads": {
                f"{i:02}": {
                    "inner": _init_dense(next(keys), self.trunk, self.trunk),
                    "outer": _init_dense(next(keys), self.trunk, self.trunk),
                    "last": _init_dense(next(keys), self.trunk, outputs, self.last),
                }
                for i, outputs in enumerate(self.outputs)
            },
        }

    def initial_state(self) -> Recurrent:
        """Zero, of one run."""
        return Recurrent(jnp.zeros(self.lstm), jnp.zeros(self.lstm))

    def step(
        self, weights: Theta, state: Recurrent, x: Float[Array, "*batch inputs"]
    ) -> tuple[Recurrent, Float[Array, "*batch outputs"]]:
        """One pause: (new state, outputs of all heads one after the other).

        x: normalised inputs, of one run or of a batch of them with as many states.
        """
        state = self._remember(weights["lstm"], state, jax.nn.relu(_dense(weights["dense"], x)))
        trunk = jax.nn.relu(_dense(weights["trunk"], state.hidden))
        outputs = []
        for i in range(len(self.outputs)):
            head = weights["heads"][f"{i:02}"]
            inner = jax.nn.relu(_dense(head["inner"], trunk))
            outputs.append(_dense(head["last"], trunk + _dense(head["outer"], inner)))
        return state, jnp.concatenate(outputs, -1)

    def split(self, outputs: Float[Array, "*batch outputs"]) -> list[Float[Array, "*batch _"]]:
        """The outputs of every head."""
        ends = [sum(self.outputs[: i + 1]) for i in range(len(self.outputs) - 1)]
        return jnp.split(outputs, ends, axis=-1)

    def largest(self, outputs: Float[Array, "*batch outputs"]) -> Int[Array, "*batch heads"]:
        """The index of the largest output of every head."""
        found = [jnp.argmax(head, axis=-1) for head in self.split(outputs)]
        return jnp.stack(found, axis=-1).astype(jnp.int32)

    def _remember(self, weights: Theta, state: Recurrent, x: Array) -> Recurrent:
        """One step of the LSTM; gates in the order input, forget, candidate, output."""
        z = jnp.concatenate([x, state.hidden], -1) @ weights["w"]
        z = z.reshape(*z.shape[:-1], 4, self.lstm)
        if self.layer_norm:
            centred = z - jnp.mean(z, -1, keepdims=True)
            z = centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), -1, keepdims=True) + 1e-5)
            z = z * weights["gain"]
        z = z + weights["b"].reshape(4, self.lstm)
        opened, kept, proposed, shown = (z[..., i, :] for i in range(4))
        cell = jax.nn.sigmoid(kept) * state.cell + jax.nn.sigmoid(opened) * jnp.tanh(proposed)
        return Recurrent(jax.nn.sigmoid(shown) * jnp.tanh(cell), cell)


def _init_dense(
    key: PRNGKeyArray, inputs: int, outputs: int, scale: float = 1.0
) -> dict[str, Array]:
    weight = scale / inputs**0.5 * jax.random.normal(key, (inputs, outputs))
    return {"w": weight, "b": jnp.zeros(outputs)}


def _dense(weights: dict[str, Array], x: Array) -> Array:
    return x @ weights["w"] + weights["b"]
