"""Weight files as other projects write them, with seeded random weights, and runs to try them on.

It imports nothing of this package: the script that runs the original code imports this file too.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization

STEPS = 50
KEPT = (1, 2, 10, 50)  # after how many updates golden values hold the parameters
SHAPES = {
    "scale": (),
    "bias": (5,),
    "one": (1,),
    "dense": (4, 6),
    "square": (3, 3),
    "unit": (2, 1, 3),
    "conv": (2, 3, 3, 4),
}
GROUPS = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)  # features by group of the VeLO family
SMALL_FC_FEATURES = 39


def _affine(inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {"w": (inputs, outputs), "b": (outputs,)}


def _network(hidden: int, *banks: int) -> dict[str, tuple[int, ...]]:
    layers = {f"w0__{i}": (*banks, size, hidden) for i, size in enumerate(GROUPS)}
    layers |= {"b0": (*banks, hidden), "w1": (*banks, hidden, hidden), "b1": (*banks, hidden)}
    return layers | {"w2": (*banks, hidden, 3), "b2": (*banks, 3)}


def _recurrent(inputs: int, hidden: int, banks: int | None) -> dict[str, Any]:
    linear = ("linear", "linear_1", "linear_2")
    layers: dict[str, Any] = {name: _affine(inputs, hidden) for name in linear}
    layers["rnn/linear"] = _affine(2 * hidden, 4 * hidden)
    if banks is not None:
        layers["rnn_to_controls"] = _affine(hidden, banks)
    layers["step_size"] = _affine(hidden, 1)
    start = {"hidden": (1, hidden), "cell": (1, hidden)}
    return {"lstm_init_state": start, "rnn_params": layers}


def velo_shapes(hidden: int = 512, banks: int = 256) -> dict[str, Any]:
    return {**_recurrent(30, hidden, banks), "ff_mod_stack": {"~": _network(4, banks)}}


def celo_shapes(hidden: int = 64) -> dict[str, Any]:
    return {**_recurrent(18, hidden, 1), "ff_mod_stack": {"~": _network(4, 1)}}


def celo_adam_shapes(hidden: int = 64) -> dict[str, Any]:
    return _recurrent(18, hidden, None)


def celo2_shapes(hidden: int = 8) -> dict[str, Any]:
    return {"ff_mod_stack": {"~": _network(hidden)}}


def small_fc_shapes(hidden: int = 4) -> dict[str, Any]:
    sizes = (SMALL_FC_FEATURES, hidden, hidden, 2)
    layers: dict[str, Any] = {f"w{i}": sizes[i : i + 2] for i in range(3)}
    layers |= {f"b{i}": (sizes[i + 1],) for i in range(3)}
    decays = {"momentum_decays": (3,), "rms_decays": (1,), "adafactor_decays": (3,)}
    return {**decays, "nn": {"~": layers}}


def drawn(shapes: dict[str, Any], seed: int, controls: float = 1.0) -> dict[str, Any]:
    """Normal weights over the square root of the inputs, and biases and starts that are not 0.

    The last layer is 20 times that and the step size 3 larger, so that fifty steps of a thousandth
    move parameters by more than their rounding; the decays of small_fc move by hundredths.
    controls: what the weights of the network choices are multiplied by.
    """
    random = np.random.RandomState(seed)

    def draw(name: str, shape: Any) -> Any:
        if isinstance(shape, dict):
            return {key: draw(key, shape[key]) for key in sorted(shape)}
        scale = shape[-2] ** -0.5 if name.startswith("w") else 0.3
        scale *= 0.1 if name.endswith("decays") else 20.0 if name == "w2" else 1.0
        return (scale * random.standard_normal(shape)).astype(np.float32)

    theta = draw("", shapes)
    if "rnn_params" in theta:
        theta["rnn_params"]["step_size"]["b"] += np.float32(3.0)
        for leaf in theta["rnn_params"].get("rnn_to_controls", {}).values():
            leaf *= np.float32(controls)
    return theta


def file_bytes(theta: dict[str, Any], wrapped: bool = False) -> bytes:
    """As flax writes a tree; wrapped: as google/learned_optimization writes it, with a step."""
    tree = {"params": theta, "gen_id": "7", "step": 3} if wrapped else theta
    return serialization.msgpack_serialize(tree, in_place=False)


def start(seed: int = 100) -> dict[str, np.ndarray]:
    """Parameters of ranks 0 to 4; `one` is 0."""
    random = np.random.RandomState(seed)
    tree = {
        name: np.asarray(random.standard_normal(shape), np.float32)
        for name, shape in SHAPES.items()
    }
    return tree | {"one": np.zeros(1, np.float32)}


def gradients(seed: int = 101) -> dict[str, np.ndarray]:
    """STEPS gradients, stacked: several sizes, a scalar that never has one, all 0 at step 7."""
    random = np.random.RandomState(seed)
    sizes = dict(zip(SHAPES, (1.0, 1e-3, 1.0, 30.0, 0.1, 1e-5, 1.0), strict=True))
    tree = {
        name: (sizes[name] * (random.standard_normal((STEPS, *shape)) + 0.5)).astype(np.float32)
        for name, shape in SHAPES.items()
    }
    for leaf in tree.values():
        leaf[6] = 0.0
    tree["bias"][:, 2] = 0.0
    tree["dense"][:, :, 1] = 0.0
    return tree


def losses(seed: int = 102) -> np.ndarray:
    """STEPS losses: falling, noisy, with one leap."""
    noise = np.random.RandomState(seed).standard_normal(STEPS)
    falling = 2.0 * np.exp(-np.arange(STEPS) / 30.0) + 0.1 * np.abs(noise)
    falling[20] *= 50.0
    return falling.astype(np.float32)


def flat(params: Any) -> np.ndarray:
    """The parameters in the order of SHAPES as one row."""
    return np.concatenate([np.asarray(params[name], np.float32).ravel() for name in SHAPES])


def run(tx: Any) -> np.ndarray:
    """The parameters after the kept numbers of updates by an optax rule, [kept, entries]."""

    def step(carry, given):
        params, state = carry
        gradient, loss = given
        updates, state = tx.update(gradient, state, params, value=loss)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    @jax.jit
    def steps(params, given):
        return jax.lax.scan(step, (params, tx.init(params)), given)[1]

    given = jax.tree.map(jnp.asarray, (gradients(), losses()))
    seen = steps(jax.tree.map(jnp.asarray, start()), given)
    return np.stack([flat({name: seen[name][t - 1] for name in seen}) for t in KEPT])


def differences(found: np.ndarray, golden: np.ndarray) -> dict[str, tuple[float, float]]:
    """The largest difference of each tensor: over its largest entry, and over how far it moved."""
    of_tensors, begin = {}, 0
    for name, leaf in start().items():
        part = slice(begin, begin + leaf.size)
        begin += leaf.size
        worst = np.abs(found[:, part] - golden[:, part]).max()
        moved = np.abs(golden[:, part] - leaf.ravel()).max()
        of_tensors[name] = (float(worst / np.abs(golden[:, part]).max()), float(worst / moved))
    return of_tensors
