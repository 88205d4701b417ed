"""The weights that ship with the package: which there are, and what their cards tell."""

import math
import re

import pytest

from learned_opt import io, load
from learned_opt.use import DEFAULT_WEIGHTS

SHIPPED = [
    "anchored_mlp",
    "hierarchical_rnn",
    "hierarchical_rnn_paper",
    "lhopt",
    "small_fc",
    "tensor_lstm",
]


def test_what_ships_is_what_loads_by_name():
    assert sorted(io.packaged()) == SHIPPED
    assert DEFAULT_WEIGHTS in SHIPPED
    load()


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
