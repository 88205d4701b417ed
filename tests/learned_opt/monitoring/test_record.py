"""Records of a run: what they hold, where they work, and that training does not notice."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.monitoring.record import record, records
from learned_opt.monitoring.statistics import QUANTILES

PARAMS = {
    "dense": {"kernel": jnp.arange(1.0, 7.0).reshape(2, 3), "bias": jnp.zeros(5)},
    "half": jnp.array([1.0, -2.0, 3.0], jnp.bfloat16),
    "index": jnp.arange(3),
}
STEPS = 7


def gradients(step):
    """Zero at step 4, with an entry that is not finite at step 6."""

    def of(path, p):
        angle = jnp.arange(p.size).reshape(p.shape) + step
        g = jnp.where(step == 4, 0.0, jnp.cos(angle * len(path)))
        return jnp.where((step == 6) & (angle == 6), jnp.nan, g).astype(p.dtype)

    return jax.tree.map_with_path(of, {k: v for k, v in PARAMS.items() if k != "index"}) | {
        "index": np.zeros(3, jax.dtypes.float0)
    }


def rule():
    """Adam on what it can train; the rest stays."""
    adam = optax.apply_if_finite(optax.adam(0.1), 5)
    kinds = {"dense": "train", "half": "train", "index": "stay"}
    return optax.partition({"train": adam, "stay": optax.set_to_zero()}, kinds)


def one(tx):
    def body(carry, step):
        params, state = carry
        updates, state = tx.update(gradients(step), state, params, value=0.0)
        moved = jax.tree.map(
            lambda p, u: p + u if jnp.issubdtype(p.dtype, jnp.floating) else p, params, updates
        )
        return (moved, state), updates

    return body


@pytest.fixture(scope="module")
def scanned():
    """(parameters after, state after, every update) of a run in one scan."""
    tx = optax.chain(record(rule(), at=2, keep=3))
    begin = (PARAMS, tx.init(PARAMS))
    (params, state), updates = jax.jit(lambda: jax.lax.scan(one(tx), begin, jnp.arange(STEPS)))()
    assert jax.tree.structure(state) == jax.tree.structure(begin[1])
    return params, state, updates


def test_training_does_not_notice(scanned):
    (params, _), updates = jax.jit(
        lambda: jax.lax.scan(one(rule()), (PARAMS, rule().init(PARAMS)), jnp.arange(STEPS))
    )()
    jax.tree.map(np.testing.assert_array_equal, (params, updates), (scanned[0], scanned[2]))


def test_the_latest_records_hold_what_was_seen(scanned):
    """Updates 0, 2, 4 and 6 are recorded, and three stay."""
    rows = records(scanned[1])
    leaves = ["dense/bias", "dense/kernel", "half"]
    assert [(r["step"], r["leaf"]) for r in rows] == [(s, n) for s in (2, 4, 6) for n in leaves]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    updates = jax.tree.map(np.float64, {name: scanned[2][name] for name in ("dense", "half")})
    for row in rows:
        step, (first, *rest) = row["step"], row["leaf"].split("/")
        pick = lambda tree, first=first, rest=rest: tree[first][rest[0]] if rest else tree[first]
        g = np.float64(pick(gradients(step)))
        u = pick(updates)[step]
        p = np.float64(pick(PARAMS)) + pick(updates)[:step].sum(0)
        g = np.where(np.isfinite(g), g, 0)
        close = 1e-2 if first == "half" else 1e-4
        for name, x in (("gradient", g), ("update", u), ("params", p)):
            np.testing.assert_allclose(row[name]["rms"], np.sqrt(np.mean(x**2)), rtol=close)
            np.testing.assert_allclose(
                row[name]["quantiles"], np.quantile(x, QUANTILES), rtol=close, atol=close
            )
            assert sum(row[name]["negative"]) == (x < 0).sum()
        norms = np.linalg.norm(g) * np.linalg.norm(u)
        expected = -(g * u).sum() / norms if norms else 0.0
        np.testing.assert_allclose(row["cosine"], expected, atol=close)
        ratio = np.sqrt(np.mean(u**2) / np.mean(p**2)) if (p != 0).any() else 0.0
        np.testing.assert_allclose(row["ratio"], ratio, rtol=close)
    np.testing.assert_allclose([r["gradient"]["zeros"] for r in rows if r["step"] == 4], 1)
    np.testing.assert_allclose(rows[-2]["gradient"]["not_finite"], 1 / 6, rtol=1e-6)
    assert records(scanned[1], after=4) == rows[6:] and records(scanned[1], after=6) == []


def test_chosen_updates_and_a_vmapped_run():
    tx = record(optax.sgd(0.1), at=[0, 3, 1000])

    def run(start):
        def body(carry, _):
            params, state = carry
            updates, state = tx.update(2 * params, state, params)
            return (params + updates, state), None

        return jax.lax.scan(body, (start, tx.init(start)), None, length=5)[0][1]

    states = jax.jit(jax.vmap(run))(jnp.array([[1.0, -1.0], [30.0, 30.0]]))
    rows = records(jax.tree.map(lambda x: x[1], states))
    assert [(row["step"], row["leaf"]) for row in rows] == [(0, ""), (3, "")]
    np.testing.assert_allclose([r["params"]["mean"] for r in rows], [30, 30 * 0.8**3], rtol=1e-5)
    np.testing.assert_allclose([r["cosine"] for r in rows], 1, rtol=1e-6)
    np.testing.assert_allclose([r["ratio"] for r in rows], 0.2, rtol=1e-5)


def test_the_point_to_evaluate_is_still_found():
    state = record(learned_opt.make("sgd")).init(PARAMS["half"])
    marked = state._replace(inner=learned_opt.EvalPoint(PARAMS["half"] + 1))
    assert (learned_opt.eval_params(marked, PARAMS["half"]) == PARAMS["half"] + 1).all()
    assert records(state) == records(optax.adam(0.1).init(PARAMS["half"])) == []


@pytest.mark.parametrize(
    ("at", "keep", "says"),
    [
        (0, None, "at: 0 is not allowed; it must be at least 1"),
        ((), None, "at: .* whole numbers"),
        ((5, -1), None, "at: .* whole numbers"),
        (5, 0, "keep: 0 is not allowed"),
    ],
)
def test_what_is_not_allowed_is_named(at, keep, says):
    with pytest.raises(ValueError, match=says):
        record(optax.sgd(0.1), at, keep)


def test_parameters_are_asked_for():
    tx = record(optax.sgd(0.1))
    with pytest.raises(ValueError, match="pass params="):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
