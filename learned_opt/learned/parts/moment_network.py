"""The per-parameter network of VeLO and Celo: two small hidden layers over the 14 groups."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_opt.learned.parts.cells import init_linear
from learned_opt.learned.parts.features import clip_gradient, normaliser
from learned_opt.learned.parts.memory import Decays, Memory
from learned_opt.learned.parts.moment_features import (
    FACTORED_DECAYS,
    GROUPS,
    MOMENTUM_DECAYS,
    moment_base,
    moment_features,
)
from learned_opt.learned.parts.scalar_network import scalar_network
from learned_opt.learned.parts.stacks import Stacks

SQUARE_DECAYS = (0.999,)
KINDS = (len(MOMENTUM_DECAYS), len(SQUARE_DECAYS), len(FACTORED_DECAYS))


def init_moment_network(key: PRNGKeyArray, units: int) -> dict[str, Array]:
    """Fresh weights, as haiku draws them; of the three outputs nothing reads the last."""
    sizes = (sum(GROUPS), units, units, 3)
    layers = [
        init_linear(layer_key, *sizes[i : i + 2])
        for i, layer_key in enumerate(jax.random.split(key, 3))
    ]
    return {f"{name}{i}": layers[i][name] for i in range(3) for name in ("w", "b")}


def fresh_memories(stacks: Stacks) -> tuple[Memory, ...]:
    """One for each stack: 4 floats a parameter, and rows and columns."""
    return tuple(
        Memory.zeros(tensors, shape, KINDS)
        for tensors, shape in zip(stacks.counts, stacks.shapes, strict=True)
    )


def moment_step(
    weights: dict[str, Array],
    memory: Memory,
    gradient: Float[Array, "*s"],
    param: Float[Array, "*s"],
    exp_mult: float,
) -> tuple[Float[Array, "*s"], Memory]:
    """direction * exp(exp_mult * magnitude) for one tensor, and its new memory."""
    gradient = clip_gradient(gradient)
    decays = (MOMENTUM_DECAYS, SQUARE_DECAYS, FACTORED_DECAYS)
    memory = memory.step(Decays(*map(jnp.asarray, decays)), gradient)
    base = moment_base(gradient, param, memory)
    scales = jnp.concatenate([normaliser(group) for group in moment_features(*base)])
    layers = [(weights[f"w{i}"], weights[f"b{i}"]) for i in range(3)]
    layers[0] = (scales[:, None] * weights["w0"], weights["b0"])
    direction, magnitude, _ = scalar_network(layers, moment_features, base, gradient.shape)
    return direction * jnp.exp(exp_mult * magnitude), memory


def param_scale(param: Float[Array, "*s"]) -> Float[Array, ""]:
    """sqrt(1e-9 + mean of p^2)."""
    return jnp.sqrt(jnp.mean(jnp.square(param)) + 1e-9)
