"""docs/architectures.md tells the size and the state of every learned rule as they are."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from learned_opt.registry import LEARNED
from meta_train.config.schema import presets_of

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
KERNEL = {"kernel": jnp.zeros((256, 512)), "bias": jnp.zeros(512)}
RULES = {
    (kind, preset): rule
    for kind, of in LEARNED.items()
    for preset, rule in (presets_of(of) or {"": of()}).items()
}


def rows() -> dict[tuple[str, str], tuple[int, float]]:
    """(kind, preset) -> (weights, bytes of state per parameter), as the page has them."""
    found = re.findall(
        r"^\| `(\w+)` \| `?(\w*)`? ?\| ([\d,]+) \| ([\d.]+) \|", PAGE.read_text(), re.M
    )
    return {(k, p): (int(w.replace(",", "")), float(b)) for k, p, w, b in found}


def test_the_page_has_every_rule():
    assert set(rows()) == set(RULES)


@pytest.mark.parametrize("kind, preset", RULES)
def test_weights_and_bytes_are_those_of_the_rule(kind, preset):
    rule = RULES[kind, preset]
    theta = jax.eval_shape(rule.init, jax.random.key(0))
    state = jax.eval_shape(lambda theta: rule.opt(theta, 100).init(KERNEL), theta)
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    scalars = sum(leaf.size for leaf in jax.tree.leaves(KERNEL))
    weights, per_parameter = rows()[kind, preset]
    assert sum(leaf.size for leaf in jax.tree.leaves(theta)) == weights
    assert per_parameter == pytest.approx(held / scalars, abs=0.06)
