"""The rules of optax that come with a guard: published values, and every guard."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import golden

from learned_opt import eval_params, make


@pytest.mark.parametrize(
    ("name", "fields", "expected", "tolerance"),
    [
        ("prodigy", {"bias_correction": True}, (0.48080551, -0.76898538, -0.18875914), 2e-8),
        ("prodigy", {}, (0.42896537, -0.81934071, -0.16357638), 2e-8),
        ("dadapt_adamw", {"bias_correction": True}, (0.47638781, -0.77130415, -0.18487065), 2e-8),
    ],
)
def test_golden_with_an_estimated_rate(name, fields, expected, tolerance):
    golden.check(name, expected, tolerance, learning_rate=1.0, estim_lr0=0.01, **fields)


DECAY = {"weight_decay": 0.1}
FACTORED = {"min_dim_size_to_factor": 2, "multiply_by_parameter_scale": False}
FACTORED_END = (0.42802244, -0.77287660, -0.2315334)


@pytest.mark.parametrize(
    ("name", "fields", "expected", "tolerance"),
    [
        (
            "schedule_free_adamw",
            {"weight_decay": 0.1},
            (0.40713404, -0.86596982, -0.17018682),
            2e-8,
        ),
        ("sm3", {}, (0.47377415, -0.78024939, -0.18591985), 2e-8),
        ("muon", {}, (0.35487582, -0.75862972, -0.10437062), 1e-5),
        ("muon", {"consistent_rms": 0.2}, (0.45895268, -0.75244085, -0.10437062), 1e-5),
        ("adafactor", FACTORED, FACTORED_END, 1e-6),
        ("adafactor", FACTORED | {"sqrt_last": True}, FACTORED_END, 1e-6),
    ],
)
def test_golden(name, fields, expected, tolerance):
    golden.check(name, expected, tolerance, **fields)


@pytest.mark.parametrize(
    ("name", "end", "estimate"),
    [("prodigy", 0.2256603626, 1.0913984855), ("dadapt_adamw", 0.1122258334, 8.4646811866)],
)
def test_estimated_rates_grow_as_the_authors(name, end, estimate):
    """On a quadratic bowl of five curvatures, 60 full-gradient steps."""
    with jax.enable_x64(True):
        tx = make(name)
        curvatures, start = jnp.arange(1.0, 6.0), jnp.full(5, 3.0)

        def step(carry, _):
            params, state = carry
            updates, state = tx.update(curvatures * params, state, params)
            return (params + updates, state), None

        run = jax.jit(lambda: jax.lax.scan(step, (start, tx.init(start)), length=60)[0])
        params, state = run()
        (state,) = [s for s in state if hasattr(s, "estimate")]
        np.testing.assert_allclose(params[0], end, rtol=0, atol=1e-9)
        np.testing.assert_allclose(state.estimate, estimate, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["prodigy", "dadapt_adamw"])
def test_estimates_outlive_a_first_gradient_of_zero(name):
    """Their quotient is 0 / 0 then, which optax keeps for ever."""
    tx, params = make(name), jnp.ones(3)

    @jax.jit
    def run():
        state = tx.init(params)
        still, state = tx.update(jnp.zeros(3), state, params)
        moved = params
        for _ in range(3):
            updates, state = tx.update(jnp.ones(3), state, moved)
            moved = moved + updates
        return still, moved

    still, moved = run()
    assert not still.any() and (moved < params).all()


def test_schedule_free_evaluates_the_mean_of_its_iterates_and_warms_up_from_the_first_step():
    """z by hand: steps of a quarter, a half, three quarters and all of the rate."""
    rates = 0.4 * np.array([0.25, 0.5, 0.75, 1.0, 1.0])
    z = x = y = np.array([1.0, -2.0])
    total = 0.0
    for rate in rates:
        z = z - rate * (y + 0.1 * y)
        total += rate**2
        x = x + rate**2 / total * (z - x)
        y = 0.2 * z + 0.8 * x
    chosen = {"learning_rate": 0.4, "weight_decay": 0.1, "b1": 0.8, "parts": ["if_finite"]}

    @jax.jit
    def run():
        schedule = {"name": "warmup", "warmup_steps": 4}
        found = []
        for warmup in ({"warmup_steps": 4}, {"schedule": schedule}):
            tx = make("schedule_free_sgd", **chosen, **warmup)
            params = jnp.array([1.0, -2.0])
            state = tx.init(params)
            for _ in rates:
                updates, state = tx.update(params, state, params)
                params = optax.apply_updates(params, updates)
            found.append((params, eval_params(state, params)))
        return found

    for params, point in run():
        np.testing.assert_allclose(params, y, rtol=1e-5)
        np.testing.assert_allclose(point, x, rtol=1e-5)


def test_muon_takes_hidden_matrices_with_kernels_as_matrices_and_leaves_tables_and_heads():
    shapes = {"hidden": (8, 4), "conv": (3, 1, 2, 4), "embedding": (8, 4), "bias": (4,)}
    keys = jax.random.split(jax.random.key(0), 4)
    gradients = {n: jax.random.normal(k, shapes[n]) for n, k in zip(shapes, keys, strict=True)}
    gradients["head"] = {"kernel": gradients["hidden"]}
    tx = make("muon", learning_rate=1.0)
    updates, _ = jax.jit(lambda g: tx.update(g, tx.init(g), g))(gradients)
    for name in ("hidden", "conv"):
        values = np.linalg.svd(updates[name].reshape(-1, 4), compute_uv=False)
        assert values.min() > 0.68 and values.max() < 1.14
    for leaf in (updates["embedding"], updates["head"]["kernel"], updates["bias"]):
        np.testing.assert_allclose(jnp.abs(leaf), jnp.abs(leaf).max(), rtol=1e-3)


def test_adafactor_is_optax_and_factors_by_the_two_longest_axes():
    """With all its options; a kernel with three axes, a matrix too small and a vector."""
    gradients = {
        "kernel": jnp.cos(jnp.arange(60.0)).reshape(3, 5, 4),
        "small": jnp.cos(jnp.arange(10.0)).reshape(5, 2),
        "vector": jnp.arange(1.0, 4.0),
    }
    params = jax.tree.map(jnp.sin, gradients)
    chosen = {"min_dim_size_to_factor": 4, "decay_rate": 0.7, "momentum": 0.8}
    chosen |= {"clipping_threshold": 0.5, "weight_decay_rate": 0.1}

    @jax.jit
    def steps():
        ours = make("adafactor", learning_rate=0.3, **chosen)
        theirs = optax.adafactor(0.3, **chosen)
        given = jax.tree.map(lambda g: jnp.stack([g, 0.3 * g - 1.0]), gradients), jnp.ones(2)
        return golden.scanned(ours, params, *given), golden.scanned(theirs, params, *given)

    ours, theirs = steps()
    for name, leaf in ours.items():
        np.testing.assert_allclose(leaf, theirs[name], rtol=2e-5, atol=1e-6)
    full, factored = (make("adafactor", min_dim_size_to_factor=n).init(params) for n in (6, 4))
    assert _floats(factored) == _floats(full) - 60 + 3 * 5 + 3 * 4 + 1 - 2


def _floats(state):
    return sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.float32)


def test_adafactor_steps_at_most_by_the_inverse_root_of_the_count_where_asked():
    tx = make("adafactor", learning_rate=0.6, relative_step=True, multiply_by_parameter_scale=False)
    params = jnp.ones(2)

    @jax.jit
    def run():
        state, steps = tx.init(params), []
        for _ in range(4):
            updates, state = tx.update(jnp.ones(2), state, params)
            steps.append(-updates[0])
        return jnp.stack(steps)

    np.testing.assert_allclose(run(), [0.6, 0.6, 3**-0.5, 0.5], rtol=1e-5)


@pytest.mark.parametrize("name", ["sm3", "prodigy", "schedule_free_adamw", "adafactor", "muon"])
def test_schedules_multiply_the_rate(name):
    """Also of rules that optax gives no schedule: nothing moves after the end of a linear one."""
    tx, params = make(name, 1, schedule="linear"), {"x": jnp.float32(2.0)}

    @jax.jit
    def run():
        first, state = tx.update(params, tx.init(params), params)
        second, _ = tx.update(params, state, optax.apply_updates(params, first))
        return first["x"], second["x"]

    first, second = run()
    assert first < 0.0 and abs(second) < 1e-6


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("schedule_free_sgd", "warmup_steps", -3),
        ("ademamix", "warmup_steps", 2.5),
        ("galore", "rank", 0),
        ("galore", "update_proj_gap", 0),
        ("muon", "ns_steps", 0),
        ("muon", "others", "("),
        ("amos", "scales", [["(", 1.0]]),
        ("adafactor", "min_dim_size_to_factor", 0),
        ("lamb", "mask", "vectors"),
        ("adamw2", "iterations", 0),
        ("prodigy", "estim_lr0", 0.0),
        ("smmf", "decay_rate", 0.5),
    ],
)
def test_what_cannot_be_is_refused_by_name(name, field, value, unchecked):
    with pytest.raises(ValueError, match=field):
        make(name, **{field: value})
