"""Every rule that corrects an anchor is that anchor, bit for bit, where it says nothing."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.anchors.registry import ANCHORS
from learned_opt.anchors.rule import as_transformation
from learned_opt.learned.anchored_mlp import AnchoredMLP
from learned_opt.learned.anchored_soap import AnchoredSoap
from learned_opt.learned.hierarchical_rnn import HierarchicalRNN
from learned_opt.learned.tensor_lstm import TensorLSTM

SHAPES = ((), (3,), (4, 3), (2, 3, 2), (4, 3))
STEPS, HORIZON, RATE = 12, 10, 0.1
# The suite compiles without optimisation, where a product is rounded before it is added or not as
# the program around it happens to fall.
AS_USERS_DO = {"xla_backend_optimization_level": 1}
RULES = {
    "anchored_mlp": partial(AnchoredMLP, hidden=2, scheduler_hidden=2),
    "anchored_soap": partial(AnchoredSoap, hidden=2),
    "hierarchical_rnn": partial(HierarchicalRNN, level_sizes=(2, 3, 2), use_relative_lr=False),
    "tensor_lstm": partial(TensorLSTM, hidden=2, lstm_hidden=2),
}


def tree(rng: np.random.Generator) -> list[jax.Array]:
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in SHAPES]


def silent(theta: dict[str, Any]) -> dict[str, Any]:
    """With zero readouts."""
    zero = partial(jax.tree.map, jnp.zeros_like)
    return {name: zero(part) if "readout" in name else part for name, part in theta.items()}


def run(rule: Callable[[Any], Any], theta: Any) -> list[Any]:
    """The updates of rule(theta), the weights being no constants of the program."""

    @partial(jax.jit, compiler_options=AS_USERS_DO)
    def update(theta: Any, gradients: Any, state: Any, params: Any, value: Any) -> Any:
        tx = optax.with_extra_args_support(rule(theta))
        return tx.update(gradients, state, params, value=value)

    rng = np.random.default_rng(5)
    params, found = tree(rng), []
    state = rule(theta).init(params)
    for t in range(STEPS):
        loss = jnp.float32(2.0 / (1.0 + t))
        updates, state = update(theta, tree(rng), state, params, loss)
        params = optax.apply_updates(params, updates)
        found.append(updates)
    return found


@pytest.mark.parametrize("anchor", ANCHORS.values(), ids=ANCHORS)
@pytest.mark.parametrize("kind", RULES)
def test_with_zero_readouts_a_rule_is_its_anchor(kind, anchor):
    rule = RULES[kind](anchor=anchor())
    theta = silent(rule.init(jax.random.key(1)))
    found = run(lambda theta: rule.opt(theta, HORIZON), theta)
    want = run(lambda _: as_transformation(anchor(), RATE, HORIZON), None)
    for t, (mine, its) in enumerate(zip(found, want, strict=True)):
        for one, other in zip(mine, its, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=f"step {t}")
