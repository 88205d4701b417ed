"""The kinds of weight decay, against published values and closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import golden

from learned_opt import make

ADAMW = (0.29606548, -0.91462721, -0.08383263)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        (0.1, ADAMW),
        ({"kind": "decoupled", "value": 0.1}, ADAMW),
        ({"kind": "independent", "value": 0.01}, ADAMW),
        ({"kind": "stable", "value": 0.1}, (0.25961905, -0.83451526, -0.07275707)),
        ({"kind": "cautious", "value": 0.1}, (0.29606548, -0.93039296, -0.08461133)),
    ],
)
def test_golden(decay, expected):
    golden.check("adam", expected, weight_decay=decay)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"bound": "dependent", "value": 0.9}, (0.150417, -0.813103, -0.055718)),
        ({"bound": "warm_start", "value": 2}, (0.226751, -0.975311, -0.055718)),
        (
            {"bound": "dependent", "value": 0.9, "measure": "std"},
            (0.235550, -0.670135, -0.055718),
        ),
    ],
)
def test_golden_of_the_constrained_kind(fields, expected):
    with jax.enable_x64(True):
        tx = make("adam", learning_rate=0.1, weight_decay={"kind": "constrained", **fields})
        found = golden.run(tx, 6)
    got = (found["w"][0, 0], found["w"][1, 2], found["b"][1])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


PARAMS = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "scale": jnp.ones(3)}


def decayed(tx) -> dict[str, bool]:
    """Which tensors move on a gradient of 0."""
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, PARAMS), tx.init(PARAMS), PARAMS)
    paths = jax.tree_util.tree_leaves_with_path(updates)
    return {
        jax.tree_util.keystr(p, simple=True, separator="/"): bool((u < 0).all()) for p, u in paths
    }


@pytest.mark.parametrize("kind", ["decoupled", "independent", "l2", "cautious"])
@pytest.mark.parametrize(
    ("mask", "among"),
    [
        ("all", {"dense/kernel", "dense/bias", "scale"}),
        ("matrices", {"dense/kernel"}),
        ({"match": "^dense/bias|scale"}, {"dense/bias", "scale"}),
    ],
)
def test_masks_skip_exactly_the_other_tensors(kind, mask, among):
    tx = make("sgd", weight_decay={"kind": kind, "value": 0.1, "mask": mask})
    assert {name for name, moves in decayed(tx).items() if moves} == among


def test_stable_decay_measures_all_and_moves_what_is_masked():
    """By value / RMS of all gradients so far, with Adam's averages: here of two steps."""
    tx = make(
        "sgd",
        learning_rate=0.1,
        momentum=0.0,
        weight_decay={"kind": "stable", "value": 0.01, "mask": "matrices", "b2": 0.9},
    )
    state = tx.init(PARAMS)
    for size in (1.0, 3.0):
        gradients = jax.tree.map(lambda p, size=size: size * jnp.ones_like(p), PARAMS)
        gradients["scale"] *= 0.0
        updates, state = tx.update(gradients, state, PARAMS)
    mean_square = (6 / 9) * (0.1 * 9.0 + 0.09 * 1.0) / (1.0 - 0.9**2)
    np.testing.assert_allclose(updates["dense"]["bias"], -0.3, rtol=1e-6)
    expected = -0.1 * (3.0 + 0.01 / np.sqrt(mean_square))
    np.testing.assert_allclose(updates["dense"]["kernel"], expected, rtol=1e-6)


def test_cautious_decay_is_strict_if_asked():
    """Where the step is 0 only the form of the paper decays."""
    for strict in (False, True):
        tx = make("sgd", learning_rate=1.0, weight_decay={"kind": "cautious", "strict": strict})
        w = jnp.array([2.0, 2.0, 2.0])
        updates, _ = tx.update(jnp.array([1.0, 0.0, -1.0]), tx.init(w), w)
        np.testing.assert_allclose(updates, [-1.02, 0.0 if strict else -0.02, 1.0], rtol=1e-6)


@pytest.mark.parametrize("measure", ["l2", "l1", "huber", "std"])
def test_a_constraint_holds_its_measure_at_the_bound(measure):
    """Against a loss whose minimum is far outside; taken after the step, before what is undone."""
    sizes = {
        "l2": lambda w: np.sum(w**2),
        "l1": lambda w: np.abs(w).sum(),
        "huber": lambda w: np.where(np.abs(w) < 1, 0.5 * w**2, np.abs(w) - 0.5).sum(),
        "std": lambda w: np.std(w, ddof=1),
    }
    start = jnp.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])
    decay = {"kind": "constrained", "bound": "dependent", "value": 1.1, "measure": measure}
    decay["speed"] = 0.1

    def run(tx):
        def step(carry, _):
            w, state = carry
            updates, state = tx.update(w - 5.0 * start, state, w)
            w = optax.apply_updates(w, updates)
            return (w, state), w

        return jax.lax.scan(step, (start, tx.init(start)), length=1000)[1][500:]

    sgd = functools.partial(make, "sgd", None, learning_rate=0.01, momentum=0.0)
    free, bounded = jax.jit(lambda: (run(sgd()), run(sgd(weight_decay=decay))))()
    first, last = (sizes[measure](np.asarray(w, np.float64)) for w in (start, free[-1]))
    assert last > 4.0 * first
    stepped = np.asarray(bounded + 0.01 * (5.0 * start - bounded), np.float64)
    held = [sizes[measure](w) for w in stepped]
    np.testing.assert_allclose(np.mean(held), 1.1 * first, rtol=0.005)
    np.testing.assert_allclose(held, 1.1 * first, rtol=0.1)


def test_the_inflection_point_sets_the_bound():
    """Looked at every second step; the increments of the smoothed measure grow, then shrink."""
    tx = make(
        "sgd", learning_rate=1.0, momentum=0.0, weight_decay={"kind": "constrained", "value": 2}
    )
    w = jnp.array([[1.0, 0.0]])
    growth = [1.0, 1.1, 1.3, 1.6, 2.0, 2.5, 2.6, 2.6, 2.6]
    state = tx.init(w)
    step = jax.jit(tx.update)
    smoothed, slope, expected = 0.0, 0.0, None
    for look, factor in enumerate(growth, 1):
        for _ in range(2):
            updates, state = step(w - factor * jnp.array([[1.0, 0.0]]), state, w)
            w = optax.apply_updates(w, updates)
        before, smoothed = smoothed, 0.9 * smoothed + 0.1 * factor**2
        if expected is None and look > 3 and smoothed - before < slope:
            expected = factor**2
        slope = smoothed - before
        found = [x for x in jax.tree.leaves(state) if x.ndim == 0 and x.dtype == jnp.float32]
        if expected is not None:
            assert expected in np.round(np.asarray(found), 5)
            break
        assert np.isinf(found).any()
    assert expected is not None
