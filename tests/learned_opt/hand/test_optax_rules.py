"""The rules taken from optax, against published values and, where there are none, optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import golden
from optax import contrib

from learned_opt import HAND_DESIGNED, inject, make


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("sgd", {"momentum": 0.0}, (0.49, -0.75, -0.2)),
        ("sgd", {"momentum": 0.9}, (0.4297, -0.75351, -0.1415)),
        ("sgd", {"momentum": 0.9, "nesterov": True}, (0.42673, -0.753159, -0.14735)),
        ("adam", {}, (0.30805492, -0.93985814, -0.08759133)),
        ("adamw", {"weight_decay": 0.1}, (0.29606548, -0.91462721, -0.08383263)),
        ("nadam", {}, (0.31468197, -0.96888179, -0.10437062)),
        ("lamb", {"weight_decay": 0.1}, (0.17269204, -0.98459376, -0.18174179)),
        ("lion", {"weight_decay": 0.1}, (0.38813950, -0.82473425, -0.29504980)),
        ("ademamix", {}, (0.30789561, -0.94000298, -0.08751709)),
        ("adopt", {}, (0.50366711, -0.75710793, -0.21540013)),
    ],
)
def test_golden(name, fields, expected):
    golden.check(name, expected, **fields)


RATE = 0.1
SAME = {  # as optax has it, with the same arguments
    "nadamw": (optax.nadamw(RATE, weight_decay=0.3), {"weight_decay": 0.3}),
    "radam": (optax.radam(RATE, b2=0.7, threshold=4.5), {"b2": 0.7, "threshold": 4.5}),
    "amsgrad": (optax.amsgrad(RATE, 0.8, 0.5), {"b1": 0.8, "b2": 0.5}),
    "adabelief": (optax.adabelief(RATE, 0.8, 0.9), {"b1": 0.8, "b2": 0.9}),
    "acprop": (contrib.acprop(RATE, 0.8, 0.9), {"b1": 0.8, "b2": 0.9}),
    "adamax": (optax.adamax(RATE, 0.8, 0.9, 1e-3), {"b1": 0.8, "b2": 0.9, "eps": 1e-3}),
    "adamaxw": (optax.adamaxw(RATE, weight_decay=0.3), {"weight_decay": 0.3}),
    "yogi": (optax.yogi(RATE, 0.8, 0.9, 1e-2), {"b1": 0.8, "b2": 0.9, "eps": 1e-2}),
    "novograd": (optax.novograd(RATE, 0.8, weight_decay=0.3), {"b1": 0.8, "weight_decay": 0.3}),
    "simplified_ademamix": (
        contrib.simplified_ademamix(RATE, 0.8, 0.9, 2.0),
        {"b1": 0.8, "b2": 0.9, "alpha": 2.0},
    ),
    "rmsprop": (optax.rmsprop(RATE, 0.8, 1e-3), {"decay": 0.8, "eps": 1e-3}),
    "adagrad": (optax.adagrad(RATE, 0.2, 1e-3), {"initial_accumulator_value": 0.2, "eps": 1e-3}),
    "adadelta": (optax.adadelta(RATE, 0.8, 1e-3), {"rho": 0.8, "eps": 1e-3}),
    "sign_sgd": (optax.sign_sgd(RATE), {}),
    "signum": (optax.signum(RATE, 0.5), {"beta": 0.5}),
    "rprop": (
        optax.rprop(RATE, 0.4, 1.3, 0.05, 0.12),
        {"eta_minus": 0.4, "eta_plus": 1.3, "min_step_size": 0.5, "max_step_size": 1.2},
    ),
    "lars": (
        optax.lars(RATE, 0.3, trust_coefficient=0.2, eps=0.1, momentum=0.8, nesterov=True),
        {"weight_decay": 0.3, "trust_coefficient": 0.2, "eps": 0.1, "momentum": 0.8}
        | {"nesterov": True},
    ),
    "fromage": (optax.fromage(RATE, 0.3), {"min_norm": 0.3}),
    "polyak_sgd": (
        # optax's own scaling divides the step, for it comes before the norm of the gradient.
        optax.chain(optax.polyak_sgd(2.0, 1.0, 0.5, 0.1), optax.scale(RATE)),
        {"max_learning_rate": 2.0, "f_min": 0.5, "eps": 0.1},
    ),
    "momo": (contrib.momo(RATE, 0.8, 0.5), {"beta": 0.8, "lower_bound": 0.5}),
    "momo_adam": (contrib.momo_adam(RATE, 0.8, weight_decay=0.3), {"b1": 0.8, "weight_decay": 0.3}),
    "dog": (contrib.dog(RATE, ("heuristic", 0.01), 0.1), {"init_step": 0.01, "eps": 0.1}),
    "dowg": (contrib.dowg(RATE, 0.01, 0.1), {"init_estim_sq_dist": 0.01, "eps": 0.1}),
    "cocob": (
        contrib.cocob(RATE, 50.0, 0.1, 0.3),
        {"alpha": 50.0, "eps": 0.1, "weight_decay": 0.3},
    ),
    "madgrad": (contrib.madgrad(RATE, 0.8, 0.3), {"momentum": 0.8, "weight_decay": 0.3}),
}


def test_the_others_are_optax_with_the_same_hyperparameters():
    """In one program; the rule that steps relative to the rate is given its bounds so."""

    @jax.jit
    def steps(params, *given):
        def both(name):
            theirs, fields = SAME[name]
            ours = make(name, learning_rate=RATE, **fields)
            return golden.scanned(ours, params, *given), golden.scanned(theirs, params, *given)

        return {name: both(name) for name in SAME}

    with jax.enable_x64(True):
        found = steps(golden.double(golden.PARAMS), *golden.stacked())
    for name, (ours, theirs) in found.items():
        for leaf in ours:
            assert not np.array_equal(ours[leaf], golden.PARAMS[leaf])
            np.testing.assert_allclose(ours[leaf], theirs[leaf], rtol=0, atol=1e-12, err_msg=name)


def test_ademamix_warms_its_slow_average_up():
    """Against NumPy: alpha linear in the step, b3 by its half-life between b1 and the last."""
    b1, b2, b3, alpha, length = 0.8, 0.9, 0.99, 4.0, 4
    chosen = {"b1": b1, "b2": b2, "b3": b3, "alpha": alpha, "warmup_steps": length}
    with jax.enable_x64(True):
        found = golden.run(make("ademamix", learning_rate=0.1, **chosen))
    lives = [np.log(0.5) / np.log(b) - 1.0 for b in (b1, b3)]
    w, fast, slow, v = np.array(golden.PARAMS["w"]), 0.0, 0.0, 0.0
    for t, gradient in enumerate(golden.GRADIENTS, 1):
        g, share = np.array(gradient["w"]), t / length
        b = 0.5 ** (1.0 / ((1 - share) * lives[0] + share * lives[1] + 1.0))
        fast, slow = b1 * fast + (1 - b1) * g, b * slow + (1 - b) * g
        v = b2 * v + (1 - b2) * g**2
        u = fast / (1 - b1**t) + share * alpha * slow
        w = w - 0.1 * u / (np.sqrt(v / (1 - b2**t)) + 1e-8)
    np.testing.assert_allclose(found["w"], w, rtol=0, atol=1e-10)


def test_what_shapes_the_program_stays_outside_the_state_that_controllers_write():
    """optax calls masks as schedules there, and traces sizes; an injected rule decays and moves."""
    chosen = {
        "lamb": {"weight_decay": 0.5, "mask": "matrices"},
        "lars": {"weight_decay": 0.5, "nesterov": True},
        "adopt": {"nesterov": True},
        "adafactor": {"momentum": 0.5, "min_dim_size_to_factor": 2},
        "galore": {"rank": 1, "update_proj_gap": 2},
        "muon": {"ns_steps": 3, "consistent_rms": 0.2},
    }

    @jax.jit
    def steps(params, *given):
        both = lambda name, fields: [
            golden.scanned(way(name, learning_rate=0.1, **fields), params, *given)
            for way in (make, inject)
        ]
        return {name: both(name, fields) for name, fields in chosen.items()}

    found = steps(golden.double(golden.PARAMS), *golden.stacked())
    for name, (made, injected) in found.items():
        for leaf in made:
            np.testing.assert_allclose(injected[leaf], made[leaf], rtol=1e-4, err_msg=name)


def test_lamb_steps_by_the_norm_of_what_it_picks_and_as_adam_elsewhere():
    params = {"w": jnp.array([[3.0, 4.0]]), "b": jnp.array([3.0, 4.0])}
    gradients = {"w": jnp.array([[1.0, -2.0]]), "b": jnp.array([1.0, -2.0])}
    tx = make("lamb", learning_rate=0.1, weight_decay=0.5, mask="matrices")
    updates, _ = jax.jit(lambda g, p: tx.update(g, tx.init(p), p))(gradients, params)
    np.testing.assert_allclose(jnp.linalg.norm(updates["w"]), 0.1 * 5.0, rtol=1e-5)
    np.testing.assert_allclose(updates["b"], [-0.1, 0.1], rtol=1e-5)


FLOATS = {  # of state for a parameter, on a (256, 512) kernel and a (512,) bias
    **{"sgd": 1, "adam": 2, "amsgrad": 3, "radam": 2, "lion": 1, "lamb": 2, "ademamix": 3},
    **{"adopt": 2, "sm3": 1.01, "adafactor": 0.01, "amos": 0, "smmf": 1 / 32 + 0.02, "muon": 1},
    **{"prodigy": 4, "dadapt_adamw": 3, "schedule_free_adamw": 3, "schedule_free_sgd": 2},
}


def test_state_is_as_large_as_it_has_to_be():
    """Schedule-free rules keep their mean beside the iterates, a float more than the authors."""
    found = {name: HAND_DESIGNED[name].state_bytes() / 4 for name in FLOATS}
    assert found == pytest.approx(FLOATS, abs=0.01)


def test_running_averages_are_adam_and_stay_right_when_their_decay_is_changed():
    """A constant gradient has second moment one and Adam's step one, whatever b2 becomes."""
    golden.check("adam", (0.30805492, -0.93985814, -0.08759133), debias="running")
    params = jnp.zeros(2)

    @jax.jit
    def steps():
        found = []
        for debias in ("running", "count"):
            tx = inject("adam", learning_rate=1.0, debias=debias)
            state = tx.init(params)
            for t in range(6):
                if t == 5:
                    state.hyperparams["b2"] = jnp.float32(0.9)
                updates, state = tx.update(jnp.ones(2), state, params)
            found.append(-updates[0])
        return found

    running, count = steps()
    np.testing.assert_allclose(running, 1.0, rtol=1e-5)
    assert count > 1.5


def test_derivatives_are_finite_where_the_gradient_is_zero_with_eps_root():
    @jax.jit
    def derivatives(gradient):
        def step(gradient, eps_root):
            tx = make("adam", eps_root=eps_root)
            return tx.update(gradient, tx.init(gradient), gradient)[0].sum()

        return [jax.grad(step)(gradient, eps_root) for eps_root in (1e-8, 0.0)]

    finite, not_finite = derivatives(jnp.array([0.0, 1.0]))
    assert jnp.isfinite(finite).all() and jnp.isnan(not_finite[0])
