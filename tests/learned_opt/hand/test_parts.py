"""The parts around a direction, against published values and closed forms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import golden

from learned_opt import eval_params, inject, make
from learned_opt.hand.parts.accumulate import accumulate

CAUTIOUS = [  # published with eps added before the bias correction of v
    ("paper", (0.31490577, -0.90062199, -0.13546097)),
    ("mean", (0.28365731, -0.93240134, -0.10953212)),
]


@pytest.mark.parametrize(("form", "expected"), CAUTIOUS)
def test_golden_of_cautious_adamw(form, expected):
    parts = [{"name": "cautious", "form": form}]
    golden.check("adamw", expected, 1e-5, weight_decay=0.1, parts=parts)


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        (
            "sgd",
            {"momentum": 0.0, "parts": ["trust_ratio"]},
            (0.49207314, -0.74654571, -0.21830061),
        ),
        (
            "adam",
            {"weight_decay": 0.1, "eps": 1e-6, "parts": ["trust_ratio"]},
            (0.17269204, -0.98459376, -0.18174179),
        ),
        ("sgd", {"momentum": 0.0, "parts": ["normalize"]}, (0.49596085, -0.74892280, -0.29300630)),
        (
            "sgd",
            {"momentum": 0.0, "parts": [{"name": "normalize", "scope": "global"}]},
            (0.50655143, -0.74843599, -0.22931459),
        ),
        ("sgd", {"momentum": 0.0, "parts": ["centralize"]}, (0.4975, -0.745, -0.2)),
        (
            "sgd",
            {"momentum": 0.0, "parts": [{"name": "soft_clip", "floor": 1e-12}]},
            (0.49, -0.75, -0.21695634),
        ),
        (
            "sgd",
            {"momentum": 0.0, "parts": ["adaptive_grad_clip"]},
            (0.49858483, -0.75059765, -0.20020773),
        ),
        (
            "sgd",
            {"momentum": 0.0, "parts": [{"name": "lookahead", "k": 2}]},
            (0.51, -0.7485, -0.21),
        ),
        (
            "adam",
            {"b1": 0.0, "weight_decay": 0.1, "parts": ["schedule_free"]},
            (0.40713404, -0.86596982, -0.17018682),
        ),
        (
            "lion",
            {"weight_decay": 0.0, "parts": ["cautious"]},
            (0.41428571, -0.83571429, -0.26666667),
        ),
        ("adanorm", {"v_leak": True}, (0.30806957, -0.93340083, -0.08759363)),
        ("adanorm", {"norm_decay": 0.5}, (0.30805492, -0.93985814, -0.09162118)),
        (
            "adam",
            {"parts": [{"name": "spectral_bound", "iterations": 40}]},
            (0.47002669, -0.77825801, -0.08759133),
        ),
    ],
)
def test_golden(name, fields, expected):
    golden.check(name, expected, **fields)


W = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])
G = np.array([[0.3, -0.1, 0.05], [-0.2, 0.4, 0.01]])


def first_step(**fields: Any) -> np.ndarray:
    """Of sgd at rate 0.1 on W with the gradient G."""
    tx = make("sgd", learning_rate=0.1, momentum=0.0, **fields)
    w, g = jnp.asarray(W, jnp.float32), jnp.asarray(G, jnp.float32)
    return np.asarray(jax.jit(lambda: tx.update(g, tx.init(w), w)[0])())


def test_parts_meet_a_gradient_in_one_order():
    """Whatever the order they are named in: clip, l2, mask, decay, trust ratio, rate, bound."""
    norm, top = np.linalg.norm, lambda m: np.linalg.norm(m, 2)
    clip = {"name": "clip", "max_delta": 0.1}
    clipped = np.clip(G, -0.1, 0.1)

    found = first_step(weight_decay={"kind": "l2", "value": 0.5}, parts=[clip])
    np.testing.assert_allclose(found, -0.1 * (clipped + 0.5 * W), rtol=1e-5)

    u = clipped * 6 / 7 + 0.5 * W  # the mask keeps all six, and the decay is not masked
    ratio = norm(W) / norm(u)
    found = first_step(weight_decay=0.5, parts=["trust_ratio", "cautious", clip])
    np.testing.assert_allclose(found, -0.1 * ratio * u, rtol=1e-5)

    bound = {"name": "spectral_bound", "tau": 0.02, "iterations": 50}
    found = first_step(weight_decay=0.5, parts=[bound, "trust_ratio", "cautious", clip])
    np.testing.assert_allclose(found, -u * 0.02 * top(W) / top(u), rtol=1e-4)


def trained(tx: Any, loss: Any, params: Any, count: int) -> tuple[Any, Any, Any]:
    """Every (parameters before, gradient, update) of a run, and the last parameters and state."""

    def step(carry, _):
        params, state = carry
        gradient = jax.grad(loss)(params)
        updates, state = tx.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), (params, gradient, updates)

    run = jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), length=count))
    (params, state), trace = run(params)
    return trace, params, state


TARGET = jnp.array([[3.0, -2.0, 1.0], [0.5, -4.0, 2.0]])
START = jnp.asarray(W, jnp.float32)


def distance(w: jax.Array) -> jax.Array:
    return 0.5 * jnp.sum(jnp.square(w - TARGET))


def test_cautious_steps_never_go_up_along_a_coordinate():
    tx = make("sgd", learning_rate=0.3, parts=["cautious"])
    (_, gradients, updates), *_ = trained(tx, distance, START, 40)
    assert (updates * gradients <= 0.0).all()
    (_, gradients, updates), *_ = trained(make("sgd", learning_rate=0.3), distance, START, 40)
    assert (updates * gradients > 0.0).any()


def test_centralized_gradients_keep_the_sum_of_every_units_weights():
    """The output is the last axis, as flax lays kernels out."""
    for kernel in (START, jnp.linspace(-1.0, 2.0, 24).reshape(2, 1, 3, 4)):
        loss = lambda w: jnp.sum(jnp.cos(jnp.arange(w.size).reshape(w.shape)) * jnp.square(w))
        tx = make("sgd", learning_rate=0.05, parts=["centralize"])
        _, moved, _ = trained(tx, loss, kernel, 5)
        sums = [jnp.sum(w, tuple(range(w.ndim - 1))) for w in (kernel, moved)]
        np.testing.assert_allclose(*sums, atol=1e-5)
        assert jnp.abs(moved - kernel).max() > 0.01


def test_spectral_bound_holds_at_every_step():
    growth = {}
    for iterations in (2, 20):
        bound = {"name": "spectral_bound", "tau": 0.03, "iterations": iterations}
        tx = make("adam", learning_rate=0.5, parts=[bound])
        (weights, _, updates), *_ = trained(tx, distance, START, 10)
        sizes = [np.linalg.norm(x, 2, (1, 2)) for x in (updates, weights)]
        growth[iterations] = sizes[0] / sizes[1]
    np.testing.assert_allclose(growth[20], 0.03, rtol=1e-3)
    np.testing.assert_allclose(growth[2][2:], 0.03, rtol=1e-2)

    both = {"one": START, "other": 0.1 * START, "bias": jnp.ones(3)}
    tx = make("sgd", learning_rate=0.5, parts=[{"name": "spectral_bound", "scope": "global"}])
    updates, _ = tx.update(both, tx.init(both), both)
    factors = jax.tree.map(lambda u, g: jnp.ravel(u / (-0.5 * g))[0], updates, both)
    np.testing.assert_allclose(list(factors.values()), 0.02, rtol=2e-2)


def test_lookahead_counts_at_its_slow_weights():
    tx = make("sgd", learning_rate=0.1, momentum=0.0, parts=[{"name": "lookahead", "k": 2}])
    state, w = tx.init(jnp.float32(1.0)), jnp.float32(1.0)
    seen = []
    for _ in range(4):
        updates, state = tx.update(jnp.float32(1.0), state, w)
        w = optax.apply_updates(w, updates)
        seen.append((float(w), float(eval_params(state, w))))
    np.testing.assert_allclose(seen, [(0.9, 1.0), (0.9, 0.9), (0.8, 0.9), (0.8, 0.8)], rtol=1e-6)


def test_averages_count_where_they_are():
    """x of schedule-free is the mean of all z; the average follows with (count / (count + 9))."""
    tx = make("sgd", learning_rate=0.1, momentum=0.0, parts=["schedule_free"])
    (params, gradients, _), last, state = trained(tx, distance, START, 5)
    z = START - 0.1 * np.cumsum(gradients, 0)
    np.testing.assert_allclose(eval_params(state, last), z.mean(0), rtol=1e-5)
    np.testing.assert_allclose(last, 0.1 * z[-1] + 0.9 * z.mean(0), rtol=1e-5)

    tx = make("sgd", learning_rate=0.1, parts=[{"name": "average", "decay": 0.15}])
    (params, _, _), last, state = trained(tx, distance, START, 3)
    one = 0.9 * params[1] + 0.1 * START
    two = 0.85 * params[2] + 0.15 * one
    np.testing.assert_allclose(eval_params(state, last), 0.85 * last + 0.15 * two, rtol=1e-5)


def test_accumulated_minibatches_are_one_large_one():
    """Weighted by their sizes: (1 * 30 + 5 * 10) / 40 = 2, where the mean of the means is 3."""
    sizes, gradients, losses = (30, 10), (1.0, 5.0), (4.0, 8.0)

    def seen(gradient: float, **extra: Any) -> tuple[list[float], dict[str, float]]:
        told = {}

        def update(updates, state, params=None, **given):
            told.update({name: float(value) for name, value in given.items()})
            return updates, state

        inner = optax.GradientTransformationExtraArgs(lambda p: (), update)
        tx = accumulate(inner, 2, **extra)
        state, found = tx.init(jnp.zeros(())), []
        with jax.disable_jit():
            for size, g, loss in zip(sizes, gradients, losses, strict=True):
                more = {"value": loss, "n_items": size}
                updates, state = tx.update(jnp.float32(gradient * g), state, **more)
                found.append(float(updates))
        return found, told

    found, told = seen(1.0, weighting="items")
    assert found == [0.0, 2.0]
    assert told == {"value": 5.0, "n_items": 40.0}
    found, told = seen(1.0)
    assert found == [0.0, 3.0]
    assert told == {"value": 6.0, "n_items": 10.0}

    tx = make("adam", parts=[{"name": "accumulate", "weighting": "items"}])
    with pytest.raises(ValueError, match="n_items: accumulate needs the number of examples"):
        tx.update(START, tx.init(START), START)


def test_gradients_that_are_not_finite_are_passed_over():
    """Nothing moves, and the averages do not learn of it; also in one of several minibatches."""
    bad = START.at[0, 1].set(jnp.nan)
    for parts, calls in ((["if_finite"], 1), (["if_finite", "accumulate"], 4)):
        tx = make("adam", parts=parts)
        before = tx.init(START)
        update = jax.jit(lambda s, g, p, tx=tx: tx.update(g, s, p))
        state = before
        for i in range(calls):
            updates, state = update(state, START if i else bad, START)
            np.testing.assert_array_equal(updates, 0.0)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
        for _ in range(calls):
            updates, state = update(state, START, START)
        np.testing.assert_allclose(updates, -1e-3 * jnp.sign(START), rtol=1e-4)


def test_numbers_inside_parts_and_decays_are_steered():
    """Rewritten between updates, without a new program; sgd with g = (3, 4), w = (1, -1)."""
    tx = inject(
        "sgd",
        learning_rate=0.1,
        momentum=0.0,
        weight_decay={"kind": "cautious", "value": 0.5},
        parts=["clip_by_global_norm", {"name": "lookahead", "k": 2, "alpha": 0.25}],
    )
    g, w = jnp.array([3.0, 4.0]), jnp.array([1.0, -1.0])
    state = tx.init(w)
    names = {"clip_by_global_norm_max_norm", "lookahead_alpha", "weight_decay", "learning_rate"}
    assert names <= {*state.hyperparams}
    traces = []

    @jax.jit
    def step(state, w):
        traces.append(1)
        updates, state = tx.update(g, state, w)
        return optax.apply_updates(w, updates), state

    w, state = step(state, w)
    np.testing.assert_allclose(w, [1.0 - 0.1 * (0.6 + 0.5), -1.0 - 0.1 * 0.8], rtol=1e-6)
    new = {"clip_by_global_norm_max_norm": 10.0, "weight_decay": 1.0, "lookahead_alpha": 0.5}
    for name, value in new.items():
        state.hyperparams[name] = jnp.float32(value)
    fast = np.array([0.89 - 0.1 * (3.0 + 0.89), -1.08 - 0.1 * 4.0])
    w, state = step(state, w)
    np.testing.assert_allclose(w, (np.array([1.0, -1.0]) + fast) / 2, rtol=1e-6)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parts": ["lookahed"]}, "parts: unknown name 'lookahed'; did you mean lookahead"),
        ({"parts": [{"name": "lookahead", "k": 0}]}, "lookahead.k: 0 .* at least 1"),
        ({"parts": [{"name": "lookahead", "alpha": 1.5}]}, "lookahead.alpha: 1.5 .* below 1"),
        ({"parts": [{"name": "clip", "max_delta": -1.0}]}, "clip.max_delta: -1.0 .* above 0"),
        ({"parts": [{"name": "cautious", "form": "papr"}]}, "form: .*did you mean paper"),
        ({"weight_decay": {"kind": "cautius"}}, "weight_decay.kind: .*did you mean cautious"),
        ({"weight_decay": {"kind": "l2", "value": -0.1}}, "weight_decay.value: -0.1 .* at least 0"),
        ({"weight_decay": {"kind": "l2", "mask": "matrix"}}, "mask: .*did you mean matrices"),
        ({"weight_decay": {"kind": "l2", "mask": {"match": "("}}}, "mask.match: .* regular"),
        ({"weight_decay": {"kind": "constrained", "bound": "warm"}}, "bound: .*warm_start"),
    ],
)
def test_what_is_not_allowed_is_told(fields, message):
    with pytest.raises(ValueError, match=message):
        make("adam", None, **fields)
