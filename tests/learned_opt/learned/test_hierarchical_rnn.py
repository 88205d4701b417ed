"""The hierarchical RNN against the numbers of its specification and a second implementation."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.anchors.relative_adam import RelativeAdam
from learned_opt.base import eval_params
from learned_opt.learned.hierarchical_rnn import PRESETS, HierarchicalRNN

ANCHORED = {"anchor": RelativeAdam(), "use_relative_lr": False}
PAPER, ATTENTION, NOMINAL = (PRESETS[n] for n in ("paper", "paper_attention", "nominal"))


def count(rule: HierarchicalRNN) -> int:
    return sum(x.size for x in jax.tree.leaves(jax.eval_shape(rule.init, jax.random.key(0))))


@functools.partial(jax.jit, static_argnames=("rule", "horizon", "learning_rate"))
def run(rule, theta, params, gradients, horizon=100, key=None, learning_rate=None):
    """Compiled once for a rule and shapes, whichever test asks."""
    tx = rule.opt(theta, horizon, key=key, learning_rate=learning_rate)

    def step(carry, gradient):
        updates, state = tx.update(gradient, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), state), None

    stacked = jax.tree.map(lambda *g: jnp.stack(g), *gradients)
    return jax.lax.scan(step, (params, tx.init(params)), stacked)[0]


def tree(key, scale=1.0):
    shapes = {"b": (3,), "w": (4, 3), "z": ()}
    return {
        name: scale * jax.random.normal(jax.random.fold_in(key, i), shape)
        for i, (name, shape) in enumerate(shapes.items())
    }


def test_weight_counts():
    assert count(PAPER) == 8349
    assert count(ATTENTION) == 8363
    assert count(replace(PAPER, use_grad_products=False)) == 8079
    assert count(replace(ATTENTION, use_grad_products=False)) == 8093


def quiet_theta(rule):
    """All recurrent and readout weights zero, an even shortcut, the stated biases."""
    theta = jax.tree.map(jnp.zeros_like, rule.init(jax.random.key(0)))
    return theta | {
        "direction_shortcut": jnp.full((4, 1), 0.25),
        "scale_decay": {"w": theta["scale_decay"]["w"], "b": jnp.array([3.2])},
        "input_decay": {"w": theta["input_decay"]["w"], "b": jnp.array([2.2])},
        "step_offset": jnp.float32(-1.0),
        "log_rate_momentum": jnp.float32(3.2),
    }


def test_golden_two_steps():
    rule, theta = PAPER, quiet_theta(PAPER)
    start = {"x": jnp.zeros(2)}
    gradients = [{"x": jnp.array([3.0, 4.0])}, {"x": jnp.array([-3.0, 4.0])}]
    params, state = run(rule, theta, start, gradients[:1], learning_rate=1e-3)
    np.testing.assert_allclose(params["x"], -3.6788e-4, rtol=1e-4)
    np.testing.assert_allclose(state.senses.square, [[9.0, 16.0]] * 4, rtol=1e-6)

    params, state = run(rule, theta, start, gradients, learning_rate=1e-3)
    average, square = np.asarray(state.senses.average), np.asarray(state.senses.square)
    np.testing.assert_allclose(average[:, 0], [2.40150, 2.69289, 2.84443, 2.92170], atol=1e-5)
    np.testing.assert_allclose(square[:, 0], [8.87338, 8.93153, 8.96439, 8.98184], atol=1e-5)
    scaled = np.arcsinh(average / np.sqrt(square))[:, 0]
    np.testing.assert_allclose(scaled, [0.73749, 0.80966, 0.84559, 0.86350], atol=1e-5)
    logs = np.log(square[:, 0])
    np.testing.assert_allclose(
        logs - logs.mean(), [-0.00722, -0.00069, 0.00298, 0.00493], atol=2e-5
    )
    np.testing.assert_allclose(params["x"], [-7.2088e-4, -7.5006e-4], rtol=1e-4)


class RowByRow:
    """Section by section in NumPy float64, one tensor at a time, a row per scalar."""

    def __init__(self, theta, params, rate):
        self.w = jax.tree.map(lambda x: np.asarray(x, np.float64), theta)
        self.hg = self.w["start"]["global"][None]
        self.tensors = [
            {
                "x": np.asarray(p, np.float64).reshape(-1, 1),
                "hp": np.tile(self.w["start"]["param"], (p.size, 1)),
                "ht": self.w["start"]["tensor"][None],
                "avg": np.zeros((p.size, 4)),
                "sq": np.zeros((p.size, 4)),
                "eta": np.full((p.size, 1), np.log(rate)),
                "p": np.zeros((p.size, 1)),
                "d": np.zeros((p.size, 1)),
            }
            for p in params
        ]

    @staticmethod
    def sigmoid(x):
        return 1.0 / (1.0 + np.exp(-x))

    def gru(self, name, x, h, bias):
        w, k = self.w[name], h.shape[1]
        xh = np.concatenate([x, h], 1)
        gates = xh @ w["gates"]["w"] + w["gates"]["b"]
        r = self.sigmoid(gates[:, :k] + bias[:, :k])
        u = self.sigmoid(gates[:, k:] + bias[:, k : 2 * k])
        xrh = np.concatenate([x, r * h], 1)
        c = np.tanh(xrh @ w["candidate"]["w"] + w["candidate"]["b"] + bias[:, 2 * k :])
        return u * h + (1 - u) * c

    def line(self, name, x):
        return x @ self.w[name]["w"] + self.w[name]["b"]

    def step(self, gradients):
        mean_eta = np.concatenate([t["eta"] for t in self.tensors]).mean()
        new_tensor_states = []
        for t, g in zip(self.tensors, gradients, strict=True):
            g = np.asarray(g, np.float64).reshape(-1, 1)
            d = t["d"] ** (0.5 ** np.arange(4))
            t["avg"] = (1 - d) * g + d * t["avg"]
            t["sq"] = (1 - t["p"]) * (t["avg"] ** 2 + 1e-12) + t["p"] * t["sq"]
            m = np.arcsinh(t["avg"] / np.sqrt(t["sq"] + 1e-16))
            logs = np.log(t["sq"] + 1e-16)
            gamma = logs - logs.mean(1, keepdims=True)
            x = np.concatenate([m, m[:, :-1] * m[:, 1:], gamma, t["eta"] - mean_eta], 1)
            bias = self.line("tensor_to_param", t["ht"]) + self.line("global_to_param", self.hg)
            t["hp"] = self.gru("param_cell", x, t["hp"], bias)
            up = np.concatenate([t["hp"], x], 1).mean(0, keepdims=True)
            new = self.gru("tensor_cell", up, t["ht"], self.line("global_to_tensor", self.hg))
            new_tensor_states.append(new)
            v = t["hp"] @ self.w["direction"] + m @ self.w["direction_shortcut"]
            v = v / np.sqrt((v**2).mean() + 1e-16)
            eta_hat = t["eta"] + self.line("log_rate", t["hp"])
            gamma_lr = self.sigmoid(self.w["log_rate_momentum"])
            t["eta"] = gamma_lr * t["eta"] + (1 - gamma_lr) * eta_hat
            t["x"] = t["x"] - np.exp(eta_hat + self.w["step_offset"]) * v
            t["p"] = self.sigmoid(self.line("scale_decay", t["hp"]))
            t["d"] = self.sigmoid(self.line("input_decay", t["hp"]))
        for t, new in zip(self.tensors, new_tensor_states, strict=True):
            t["ht"] = new
        mean = np.mean(new_tensor_states, 0)
        self.hg = self.gru("global_cell", mean, self.hg, np.zeros((1, 60)))


def test_agrees_with_a_second_implementation():
    theta = replace(PAPER, zero_init_lr_weights=False).init(jax.random.key(3))
    params = tree(jax.random.key(1))
    gradients = [tree(jax.random.fold_in(jax.random.key(2), i), 10.0) for i in range(6)]
    ours, state = run(PAPER, theta, params, gradients, learning_rate=1e-2)
    second = RowByRow(theta, [params[k] for k in "bwz"], 1e-2)
    for g in gradients:
        second.step([g[k] for k in "bwz"])
    for name, theirs in zip("bwz", second.tensors, strict=True):
        np.testing.assert_allclose(np.ravel(ours[name]), theirs["x"][:, 0], rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(state.levels.globe[:, 0], second.hg[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rule", [PAPER, NOMINAL], ids=["paper", "nominal"])
def test_gradient_scale_does_not_matter(rule):
    theta = rule.init(jax.random.key(0))
    params = tree(jax.random.key(1))
    gradients = [tree(jax.random.fold_in(jax.random.key(2), i)) for i in range(3)]
    large = jax.tree.map(lambda g: 1e3 * g, gradients)
    one, _ = run(rule, theta, params, gradients, key=jax.random.key(4))
    other, _ = run(rule, theta, params, large, key=jax.random.key(4))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, other)


@pytest.mark.parametrize("rule", [PAPER, NOMINAL], ids=["paper", "nominal"])
def test_permuting_a_tensor_permutes_its_updates(rule):
    theta = rule.init(jax.random.key(0))
    order = np.array([3, 0, 4, 2, 1])
    params = {"a": jnp.arange(5.0), "b": jnp.ones(2)}
    gradients = [
        {"a": jax.random.normal(jax.random.key(i), (5,)), "b": jnp.ones(2)} for i in range(4)
    ]
    shuffle = lambda t: {"a": t["a"][order], "b": t["b"]}
    one, _ = run(rule, theta, params, gradients)
    other, _ = run(rule, theta, shuffle(params), [shuffle(g) for g in gradients])
    np.testing.assert_allclose(shuffle(one)["a"], other["a"], rtol=1e-5, atol=1e-7)


def quadratic_loss(rule, theta, key, steps=20):
    a_key, x_key, rule_key = jax.random.split(key, 3)
    matrix = jax.random.normal(a_key, (20, 20))
    loss = lambda p: 0.5 * jnp.sum((matrix @ p["x"] - 1.0) ** 2)
    params = {"x": jax.random.normal(x_key, (20,))}
    tx = rule.opt(theta, 500, key=rule_key)

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    (params, state), values = jax.lax.scan(step, (params, tx.init(params)), length=steps)
    return jnp.mean(jnp.log(values)), loss(eval_params(state, params)) / values[0]


@pytest.mark.parametrize(
    "rule",
    [*(pytest.param(rule, marks=pytest.mark.slow) for rule in (PAPER, ATTENTION)), NOMINAL],
    ids=PRESETS,
)
def test_reverse_and_forward_derivatives_are_finite(rule):
    theta = rule.init(jax.random.key(0))
    value = lambda theta: quadratic_loss(rule, theta, jax.random.key(1))[0]
    direction = jax.tree.map(jnp.ones_like, theta)
    reverse, (_, forward) = jax.jit(
        lambda theta: (jax.grad(value)(theta), jax.jvp(value, (theta,), (direction,)))
    )(theta)
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(reverse))
    total = sum(jnp.sum(g) for g in jax.tree.leaves(reverse))
    np.testing.assert_allclose(forward, total, rtol=1e-2, atol=1e-4)
    if "log_rate_momentum" in reverse:
        assert reverse["log_rate_momentum"] == 0.0


def test_fresh_weights_descend_slowly():
    theta = PAPER.init(jax.random.key(5))
    ratio = jax.jit(lambda k: quadratic_loss(PAPER, theta, k, 500)[1])
    ratios = [float(ratio(jax.random.key(i))) for i in range(5)]
    assert all(0.3 < r < 1.0 for r in ratios), ratios


def test_constant_excursion_drifts_the_rate():
    theta = quiet_theta(PAPER)
    theta["log_rate"] = {"w": theta["log_rate"]["w"], "b": jnp.array([0.1])}
    gradients = [{"x": jnp.ones(2)}] * 10
    _, state = run(PAPER, theta, {"x": jnp.zeros(2)}, gradients, learning_rate=1e-3)
    momentum = 1.0 / (1.0 + np.exp(-3.2))
    np.testing.assert_allclose(
        state.log_rate, np.log(1e-3) + 10 * (1.0 - momentum) * 0.1, rtol=1e-5
    )


def test_clipped_rate_passes_its_gradient():
    rule = replace(PAPER, max_log_lr=-5.0)
    theta = quiet_theta(rule)

    def moved(bias):
        t = theta | {"log_rate": {"w": theta["log_rate"]["w"], "b": bias}}
        params, _ = run(rule, t, {"x": jnp.zeros(2)}, [{"x": jnp.ones(2)}], learning_rate=1e-2)
        return params["x"][0]

    step = np.exp(-5.0 - 1.0)
    np.testing.assert_allclose(moved(jnp.array([2.0])), -step, rtol=1e-5)
    np.testing.assert_allclose(jax.grad(moved)(jnp.array([2.0])), [-step], rtol=1e-5)


def test_attention_keeps_the_point_that_counts():
    theta = quiet_theta(ATTENTION)
    theta["lookahead_shortcut"] = jnp.full((4, 1), 0.25)
    start = {"x": jnp.zeros(2)}
    params, state = run(ATTENTION, theta, start, [{"x": jnp.ones(2)}], learning_rate=1e-3)
    np.testing.assert_allclose(eval_params(state, params)["x"], -1e-3 * np.exp(-1.0), rtol=1e-5)
    np.testing.assert_allclose(params["x"], -1e-3, rtol=1e-5)


def test_random_initial_rates_lie_in_the_range():
    theta = PAPER.init(jax.random.key(0))
    params = {"a": jnp.zeros(500), "b": jnp.zeros(500)}
    state = PAPER.opt(theta, 10, key=jax.random.key(1)).init(params)
    rates = np.asarray(state.log_rate)
    assert np.log(1e-6) <= rates.min() and rates.max() <= np.log(1e-2)
    assert abs(rates[:500].mean() - rates[500:].mean()) > 0.1
    middle = PAPER.opt(theta, 10).init(params).log_rate
    np.testing.assert_allclose(middle, np.log(1e-4), rtol=1e-6)


FLAGS = [
    {"learnable_decay": False},
    {"learnable_inp_decay": False},
    {"learnable_rnn_init": False},
    {"dynamic_output_scale": False, "use_relative_lr": False},
    {"num_gradient_scales": 1, "use_grad_products": False},
    {"use_log_means_squared": False, "use_grad_products": False, "use_relative_lr": False},
    {"use_problem_lr_mean": False},
    {"use_extreme_indicator": True, "use_lr_shortcut": True},
    {"use_gradient_shortcut": False, "use_attention": True},
    {"use_multiple_scale_decays": True},
    {"use_second_derivatives": False},
    {"zero_init_lr_weights": False},
    {"level_sizes": (6,)},
    {"level_sizes": (6, 8)},
    {"global_input": "last"},
    {"max_log_lr": -9.0},
]


@pytest.mark.slow
@pytest.mark.parametrize("flags", FLAGS, ids=lambda f: "-".join(f))
def test_every_flag_changes_the_rule_and_stays_finite(flags):
    rule = replace(PAPER, **flags)
    theta = rule.init(jax.random.key(0))
    params = tree(jax.random.key(1))
    gradients = [tree(jax.random.fold_in(jax.random.key(2), i)) for i in range(3)]
    moved, _ = run(rule, theta, params, gradients, key=jax.random.key(4))
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(moved))
    if "use_second_derivatives" in flags:
        grad = jax.grad(lambda g: run(rule, theta, {"x": jnp.zeros(2)}, [g])[0]["x"].sum())
        assert not grad({"x": jnp.ones(2)})["x"].any()
    elif "zero_init_lr_weights" in flags:
        assert theta["log_rate"]["w"].any()
        assert not PAPER.init(jax.random.key(0))["log_rate"]["w"].any()
    else:
        theta = PAPER.init(jax.random.key(0))
        plain, _ = run(PAPER, theta, params, gradients, key=jax.random.key(4))
        differs = jax.tree.map(lambda a, b: bool((a != b).any()), moved, plain)
        assert any(jax.tree.leaves(differs))


@pytest.mark.parametrize(
    "flags, names",
    [
        ({"level_sizes": ()}, "level_sizes"),
        ({"level_sizes": (1, 2, 3, 4)}, "level_sizes"),
        ({"level_sizes": (2.5,)}, "level_sizes"),
        ({"dynamic_output_scale": False}, "use_relative_lr"),
        ({"num_gradient_scales": 0}, "num_gradient_scales"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"init_lr_range": (1e-2, 1e-6)}, "init_lr_range"),
        (ANCHORED | {"use_attention": True}, "use_attention"),
        (ANCHORED | {"level_sizes": (4,)}, "level_sizes"),
    ],
)
def test_impossible_choices_are_refused_by_name(unchecked, flags, names):
    with pytest.raises(ValueError, match=names):
        replace(PAPER, **flags)


def test_unusual_trees():
    for rule in (PAPER, NOMINAL):
        theta = rule.init(jax.random.key(0))
        tx = rule.opt(theta, 10)
        updates, _ = tx.update({}, tx.init({}), {})
        assert updates == {}
        params = {"steps": jnp.arange(3), "w": jnp.ones(2), "none": jnp.zeros((0, 4))}
        grads = jax.tree.map(lambda p: jnp.ones(p.shape, p.dtype), params)
        updates, _ = jax.jit(tx.update)(grads, tx.init(params), params)
        assert not updates["steps"].any() and updates["steps"].dtype == params["steps"].dtype
        assert updates["w"].all() and updates["none"].shape == (0, 4)
        with pytest.raises(ValueError, match="complex"):
            tx.init({"w": jnp.ones(2, jnp.complex64)})


def test_non_finite_gradient_entries_count_as_zero():
    for rule in (PAPER, NOMINAL):
        theta = rule.init(jax.random.key(0))
        params = {"w": jnp.ones(3)}
        bad, _ = run(rule, theta, params, [{"w": jnp.array([1.0, jnp.nan, -jnp.inf])}])
        zero, _ = run(rule, theta, params, [{"w": jnp.array([1.0, 0.0, 0.0])}])
        np.testing.assert_array_equal(bad["w"], zero["w"])
