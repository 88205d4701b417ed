"""The rules taken from optax, against published values and, where there are none, optax."""

import golden
import jax
import numpy as np
import optax
import pytest
from optax import contrib

from learned_opt import make


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
