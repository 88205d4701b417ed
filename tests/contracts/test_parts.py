"""What every part and every kind of weight decay promises."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt import eval_params, make
from learned_opt.hand.parts.registry import DECAYS, PARTS

CHOICES: dict[str, dict[str, Any]] = {
    **{name: {"parts": [name]} for name in PARTS},
    **{f"decay-{kind}": {"weight_decay": {"kind": kind}} for kind in DECAYS},
}
EACH = pytest.mark.parametrize("chosen", CHOICES.values(), ids=list(CHOICES))
PARAMS = {
    "scalar": jnp.float32(0.5),
    "vector": jnp.linspace(-1.0, 1.0, 3),
    "kernel": jnp.linspace(-2.0, 1.0, 24).reshape(2, 1, 3, 4),
    "half": jnp.ones((2, 2), jnp.bfloat16),
}


def gradients(scale: Any) -> Any:
    """Of four steps, along a leading axis."""

    def one(p):
        values = jnp.cos(1.0 + jnp.arange(4 * p.size, dtype=jnp.float32))
        return (scale * values).reshape(4, *p.shape).astype(p.dtype)

    return jax.tree.map(one, PARAMS)


def run(chosen: dict[str, Any], scale: Any) -> Any:
    """Four steps of Adam with a part; arguments that nobody knows pass."""
    tx = make("adam", 10, **chosen)

    def step(carry, gradient):
        params, state = carry
        extra = {"value": jnp.float32(1.0), "n_items": jnp.int32(4), "unknown": "extra"}
        extra |= {"obj_fn": lambda p: sum(jnp.vdot(g, p[n]) for n, g in gradient.items())}
        updates, state = tx.update(gradient, state, params, **extra)
        return (optax.apply_updates(params, updates), state), None

    (params, state), _ = jax.lax.scan(step, (PARAMS, tx.init(PARAMS)), gradients(scale))
    return params, eval_params(state, params), state


def test_steps_are_finite_and_keep_the_shape_of_the_state():
    """In a scan, vmapped over gradients and none."""

    @jax.jit
    def everything(scales):
        runs = lambda chosen: jax.vmap(lambda scale: run(chosen, scale))(scales)
        return {name: runs(chosen) for name, chosen in CHOICES.items()}

    for name, (params, point, state) in everything(jnp.array([1.0, 0.0])).items():
        for leaf in jax.tree.leaves((params, point)):
            assert jnp.isfinite(leaf.astype(jnp.float32)).all(), name
        for leaf in jax.tree.leaves(state):
            assert not jnp.isnan(leaf).any(), name
        for found in (params, point):
            described = jax.tree.map(lambda x: (x.shape[1:], x.dtype), found)
            assert described == jax.tree.map(lambda x: (x.shape, x.dtype), PARAMS), name
        assert not np.array_equal(params["kernel"][0], PARAMS["kernel"]), name


@EACH
def test_fields_nobody_knows_are_told(chosen):
    if "parts" in chosen:
        accepted = PARTS[chosen["parts"][0]].defaults
        spoilt = lambda field: {"parts": [{"name": chosen["parts"][0], field: 1}]}
    else:
        accepted = DECAYS[chosen["weight_decay"]["kind"]].defaults
        spoilt = lambda field: {"weight_decay": chosen["weight_decay"] | {field: 1}}
    for field in accepted:
        with pytest.raises(ValueError, match=f"{field}_x: unknown.*did you mean {field}"):
            make("adam", None, **spoilt(f"{field}_x"))


@EACH
def test_parts_say_what_they_need(chosen):
    names = chosen.get("parts") or [chosen["weight_decay"]["kind"]]
    part = (PARTS if "parts" in chosen else DECAYS)[names[0]]
    assert part.about
    tx = make("adam", None, **chosen)
    state = jax.eval_shape(tx.init, PARAMS)
    given = {"params": PARAMS, "obj_fn": lambda params: 0.0}
    for name in part.needs:
        rest = {key: value for key, value in given.items() if key != name}
        with pytest.raises(ValueError, match=f"{name}: {names[0]} needs the "):
            jax.eval_shape(lambda s, rest=rest: tx.update(PARAMS, s, **rest), state)
