"""The weights that ship with the package: which there are, and what their cards tell."""

import math
import re

import jax
import jax.numpy as jnp
import pytest

from learned_opt import io, load

SHIPPED = [
    "anchored_mlp",
    "anchored_soap",
    "hierarchical_rnn",
    "hierarchical_rnn_paper",
    "lhopt",
    "small_fc",
    "tensor_lstm",
]


def test_what_ships_is_what_loads_by_name():
    assert sorted(io.packaged()) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_card_says_how_the_weights_were_made_and_how_they_do(name):
    card = io.card(name)
    assert card["licence"] == "Apache-2.0"
    assert card["config"]["optimizer"]["kind"] == card["kind"]
    assert re.fullmatch(r"[0-9a-f]{40}\+?", card["commit"])
    assert card["compute"]["hours"] > 0 and card["compute"]["meta_steps"] >= card["meta_steps"]
    assert card["selection"] and math.isfinite(card["selection_score"])
    results = card["results"]
    assert results["suite"].startswith("heldout") and results["fingerprint"]
    assert results["yardstick"] in results["verdicts"] and len(results["verdicts"]) > 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SHIPPED)
def test_where_jax_computes_in_float64_weights_load_and_runs_can_be_scanned(name, dtype):
    with jax.enable_x64(True):
        tx = load(name, num_steps=20)
        params = {"kernel": jnp.ones((3, 4), dtype), "bias": jnp.ones(4, dtype)}
        losses = {"value": jnp.ones(()), "eval_value": jnp.ones(())}
        state = jax.eval_shape(tx.init, params)
        updates, after = jax.eval_shape(
            lambda state: tx.update(params, state, params, **losses), state
        )
    assert after == state
    assert {leaf.dtype.name for leaf in jax.tree.leaves(updates)} == {dtype}
