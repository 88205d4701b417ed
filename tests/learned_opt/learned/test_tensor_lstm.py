"""The tensor LSTM against its published numbers and a second implementation in NumPy."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.anchors.relative_adam import RelativeAdam
from learned_opt.learned.parts.losses import LossAverage
from learned_opt.learned.parts.scalar_network import CHUNK, pooled_network
from learned_opt.learned.tensor_lstm import TensorLSTM

SHAPES = [(), (3,), (2, 3), (1,), (2, 3), (2, 1, 3), (3, 2, 2, 4)]
VALUES, EVAL_VALUES = (3.0, 2.5, 40.0), (3.1, np.nan, 2.0)
SMALL = TensorLSTM(hidden=3, lstm_hidden=2, step_mult=0.05, exp_mult=0.1)


def tree(seed: int, scale: float = 1.0) -> list[jax.Array]:
    draw = np.random.default_rng(seed)
    return [jnp.asarray(scale * draw.normal(size=shape), jnp.float32) for shape in SHAPES]


def weights(rule: TensorLSTM, seed: int = 0):
    """Weights of which none is 0, that say magnitudes which matter."""
    leaves, treedef = jax.tree.flatten(rule.init(jax.random.key(seed)))
    draw = np.random.default_rng(seed)
    return treedef.unflatten(
        [leaf + jnp.asarray(0.1 * draw.normal(size=leaf.shape), jnp.float32) for leaf in leaves]
    )


@lru_cache
def stepper(rule: TensorLSTM, learning_rate: float | None = None):
    """A step, compiled once for a rule and a tree."""

    @jax.jit
    def step(theta, gradients, state, params, value, eval_value):
        tx = rule.opt(theta, 100, learning_rate=learning_rate)
        updates, state = tx.update(gradients, state, params, value=value, eval_value=eval_value)
        return updates, state, optax.apply_updates(params, updates)

    return step


def run(
    rule: TensorLSTM, theta, params, gradients, values=VALUES, evals=EVAL_VALUES, rate=None
) -> tuple[list[Any], Any]:
    state: Any = rule.opt(theta, 100).init(params)
    seen: list[Any] = []
    for gradient, *losses in zip(gradients, values, evals, strict=False):
        updates, state, params = stepper(rule, rate)(theta, gradient, state, params, *losses)
        seen.append(updates)
    return seen, state


class Second:
    """Section by section in NumPy float64, a tensor and a scalar at a time."""

    DECAYS = (0.5, 0.9, 0.99, 0.999, 0.9999)
    TIMES = (1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5)

    def __init__(self, rule: TensorLSTM, theta, params):
        self.rule = rule
        self.w = jax.tree.map(lambda x: np.asarray(x, np.float64), theta)
        self.p = [np.asarray(p, np.float64) for p in params]
        self.m = [np.zeros((5, *p.shape)) for p in self.p]
        self.v = [np.zeros((5, *p.shape)) for p in self.p]
        start = self.w["start"]
        self.h = [start["hidden"] for _ in self.p]
        self.c = [start["cell"] for _ in self.p]
        self.from_mlp = [start["from_scalars"] for _ in self.p]
        self.from_lstm = start["from_tensors"]
        self.train, self.valid = (0.0, 0.0, 0), (0.0, 0.0, 0)
        self.size, self.t = 0.01, 0

    @staticmethod
    def heard(average, decay, loss):
        mean, var, n = average
        mean = decay * mean + (1 - decay) * loss
        return mean, decay * var + (1 - decay) * (loss - mean) ** 2, n + 1

    def loss_features(self, value, eval_value):
        self.train = self.heard(self.train, 0.9, value)
        if np.isfinite(eval_value):
            self.valid = self.heard(self.valid, 0.95, eval_value)
        mean, var, n = self.train
        c = 1 / (1 - 0.9**n + 1e-8)
        valid = self.valid[0] / (1 - 0.95 ** self.valid[2] + 1e-8)
        return [
            np.clip((loss - c * mean) / np.sqrt(c * var + 1e-8), -5, 5) for loss in (value, valid)
        ]

    def step(self, gradients, value, eval_value):
        train, valid = self.loss_features(value, eval_value)
        bound = 10 * self.size / (1 - 0.99 ** (self.t + 1))
        gradients = [np.clip(np.asarray(g, np.float64), -bound, bound) for g in gradients]
        mean_square = np.mean([np.mean(g**2) for g in gradients])
        self.size = 0.99 * self.size + 0.01 * np.sqrt(1e-8 + mean_square)
        moves, told = [], []
        for i, g in enumerate(gradients):
            for k, b in enumerate(self.DECAYS):
                self.m[i][k] = b * self.m[i][k] + (1 - b) * g
                self.v[i][k] = b * self.v[i][k] + (1 - b) * g**2
            x = np.concatenate(
                [self.from_lstm, self.from_mlp[i], self.tensor_features(i, g, train, valid)]
            )
            told.append(self.lstm(i, x))
            moves.append(self.scalars(i, g))
        self.from_lstm = np.mean(told, 0)
        self.p = [p + move for p, move in zip(self.p, moves, strict=True)]
        self.t += 1
        return moves

    def tensor_features(self, i, g, train, valid):
        def la(x):
            return np.clip(np.log(1e-8 + np.abs(x)), -5, 5)

        m, v, p = self.m[i], self.v[i], self.p[i]
        found = {
            "g_norm": la(np.sqrt(np.sum(g**2))),
            "is_scalar": 1.0 if p.ndim == 0 else -1.0,
            "mean_ms_mag": la(m.mean()),
            "mean_ms_sign": np.sign(m.mean()),
            "mean_rms": la(v.mean()),
            "mean_sign": np.sign(v.mean()),
            "mean_v_mag": la(p.mean()),
            "mean_v_sign": np.sign(p.mean()),
            "norm_weight": la(np.sqrt(np.sum(p**2))),
            "train_loss_feat": train,
            "valid_loss_feat": valid,
            "var_ms": la(m.var()),
            "var_rms": la(v.var()),
            "var_v": la(p.var()),
        }
        for j, n in enumerate([*p.shape, 1, 1, 1, 1][:4]):
            found[f"shape_{j}"] = np.log(n) - 1.0
        return np.array([found[name] for name in sorted(found)])

    def lstm(self, i, x):
        """Sets the state of one tensor's LSTM and returns what it tells all tensors."""
        w, b = self.w["lstm"]["w"], self.w["lstm"]["b"]
        gates = np.concatenate([x, self.h[i]]) @ w + b
        opened, proposed, forget, shown = np.split(gates, 4)
        sigmoid = lambda z: 1 / (1 + np.exp(-z))
        self.c[i] = sigmoid(forget + 1) * self.c[i] + sigmoid(opened) * np.tanh(proposed)
        self.h[i] = sigmoid(shown) * np.tanh(self.c[i])
        return self.h[i] @ self.w["to_tensors"]["w"] + self.w["to_tensors"]["b"]

    def scalars(self, i, g):
        """The moves of one tensor's scalars; keeps the mean of what they say to their LSTM."""
        p = self.p[i].reshape(-1)
        m, v = self.m[i].reshape(5, -1), self.v[i].reshape(5, -1)
        inverse = (v + 1e-6) ** -0.5
        rows = np.stack([g.reshape(-1), p, np.log(np.abs(p) + 1e-8), *m, *v, *(m * inverse)])
        rows = np.concatenate([rows, inverse])
        rows = rows * (1e-5 + np.mean(rows**2, 1, keepdims=True)) ** -0.5
        same = [np.sin(self.t / (tau * np.pi)) for tau in self.TIMES]
        same += [np.log(len(self.p)) - 1, np.log(np.sqrt(np.sum(p**2)) + 1e-8), np.log(p.size)]
        same = np.concatenate(
            [same, self.h[i] @ self.w["to_scalars"]["w"] + self.w["to_scalars"]["b"]]
        )
        x = np.concatenate([rows.T, np.tile(same, (p.size, 1))], 1)
        assert x.shape == (p.size, 54)
        for name in ("layer0", "layer1"):
            x = np.maximum(x @ self.w[name]["w"] + self.w[name]["b"], 0)
        self.from_mlp[i] = np.mean(x @ self.w["to_lstm"]["w"] + self.w["to_lstm"]["b"], 0)
        said = x @ self.w["scalar_readout"]["w"] + self.w["scalar_readout"]["b"]
        step = self.rule.step_mult * said[:, 0] * np.exp(self.rule.exp_mult * said[:, 1])
        return -step.reshape(g.shape)


def test_weight_counts():
    theta = jax.eval_shape(TensorLSTM().init, jax.random.key(0))
    count = lambda part: sum(leaf.size for leaf in jax.tree.leaves(part))
    assert count(theta) == 35_799
    assert theta["lstm"]["w"].shape == (52 + 64, 4 * 64)
    assert theta["layer0"]["w"].shape == (54, 32)
    scalars = [theta[name] for name in ("layer0", "layer1", "scalar_readout", "to_lstm")]
    sizes = [count(x) for x in (theta["lstm"], theta["to_tensors"], theta["to_scalars"], scalars)]
    assert [*sizes, count(theta["start"])] == [29_952, 1_170, 1_105, 3_410, 162]


def test_state_is_ten_floats_for_a_parameter_and_144_for_a_tensor():
    def floats(shapes):
        params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        rule = TensorLSTM()
        theta = jax.eval_shape(rule.init, jax.random.key(0))
        state = jax.eval_shape(lambda theta, params: rule.opt(theta, 1).init(params), theta, params)
        return sum(leaf.size for leaf in jax.tree.leaves(state))

    once = floats([(20, 30), (7,)])
    assert floats([(20, 30), (20, 30), (7,)]) - once == 10 * 600 + 2 * 64 + 16
    assert once - 10 * 607 - 2 * 144 == 18 + 2 * 3 + 2  # message, two loss averages, clip, count


@pytest.mark.parametrize("scale", [1e-3, 1.0, 60.0])  # 60: beyond the first bound of gradients
def test_three_steps_agree_with_the_second_implementation(scale):
    rule = TensorLSTM(step_mult=0.05, exp_mult=0.1)
    theta, params = weights(rule), tree(0)
    gradients = [tree(seed, scale) for seed in (1, 2, 3)]
    seen, state = run(rule, theta, params, gradients)
    other = Second(rule, theta, params)
    for updates, *given in zip(seen, gradients, VALUES, EVAL_VALUES, strict=True):
        for got, want in zip(updates, other.step(*given), strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(state.from_tensors, other.from_lstm, rtol=1e-4, atol=1e-6)
    assert state.valid_loss.count == 2 and state.train_loss.count == 3


def test_losses_steer_and_those_that_are_not_finite_count_as_none():
    theta, params = weights(SMALL), [jnp.ones(3), jnp.ones((2, 2))]
    gradients = [params, params]
    seen, known = run(SMALL, theta, params, gradients, (3.0, 2.0), (3.0, 9.0))
    other, _ = run(SMALL, theta, params, gradients, (3.0, 2.0), (3.0, 1.0))
    assert not np.allclose(seen[1][1], other[1][1])
    seen, state = run(SMALL, theta, params, gradients, (3.0, np.inf), (3.0, -np.inf))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((seen, state)))
    assert state.train_loss.count == state.valid_loss.count == 1 and known.train_loss.count == 2


@pytest.mark.parametrize("missing", [{"value": 3.0}, {}])
def test_without_a_validation_loss_the_training_loss_stands_in(missing):
    theta, params = weights(SMALL), [jnp.ones(())]

    @jax.jit
    def step():
        tx = SMALL.opt(theta, 100)
        both = {"value": jnp.nan, "eval_value": jnp.nan} | {n: 3.0 for n in missing}
        both |= {"eval_value": 3.0} if missing else {}
        state = tx.init(params)
        return tx.update(params, state, params, **missing), tx.update(params, state, params, **both)

    jax.tree.map(np.testing.assert_array_equal, *step())


def test_the_average_of_losses():
    average = LossAverage.zeros()
    assert average.corrected(0.9) == (0.0, 0.0)
    for _ in range(3):
        average = average.step(0.9, jnp.float32(4.0))
    np.testing.assert_allclose(average.corrected(0.9)[0], 4.0, rtol=1e-6)
    assert average.step(0.9, jnp.nan).count == average.step(0.9, None).count == 3
    assert average.normalised(0.9, 1e30) == 5.0 and average.normalised(0.9, -1e30) == -5.0
    assert average.normalised(0.9, jnp.nan) == average.normalised(0.9, None) == 0.0


def test_tensors_hear_of_each_other_one_step_later():
    """What happens to one tensor moves another only at the step after the next."""
    theta, params = weights(SMALL), [jnp.ones(3), jnp.ones((2, 2))]
    quiet = [[jnp.ones(3), jnp.ones((2, 2))]] * 3
    # Opposite signs leave every mean of squares, and so the bound on gradients, as it was.
    loud = [[jnp.ones(3), -jnp.ones((2, 2))], *quiet[1:]]
    seen = [run(SMALL, theta, params, gradients)[0] for gradients in (quiet, loud)]
    np.testing.assert_array_equal(seen[0][0][0], seen[1][0][0])
    assert (seen[0][0][1] != seen[1][0][1]).any()
    assert (seen[0][1][0] != seen[1][1][0]).any()


def test_weights_that_add_up_to_1_change_nothing_at_the_first_step():
    """All directions agree there."""
    rule = replace(SMALL, anchor=RelativeAdam())
    theta, start = weights(rule), tree(0)[1:4]
    silent = {n: jax.tree.map(jnp.zeros_like, theta[n]) for n in theta if "readout" in n}
    assert set(silent) == {"scalar_readout", "tensor_readout"}
    (want, *_), _ = run(rule, theta | silent, start, [tree(1)[1:4]])
    readout = jnp.array([0.3, -1.0, 0.0, 1.0])
    bias = {"tensor_readout": silent["tensor_readout"] | {"b": readout}}
    (first, *_), _ = run(rule, theta | silent | bias, start, [tree(1)[1:4]], rate=0.2)
    np.testing.assert_allclose(first[1], 2.0 * np.exp(0.3) * want[1], rtol=1e-4)


@pytest.mark.slow
def test_meta_gradients_are_finite_from_zero_gradients_on():
    """Reverse mode against central differences along one direction."""
    theta, direction = weights(SMALL), weights(SMALL, 3)
    params = {"w": jnp.zeros((2, 3)), "b": jnp.ones(())}

    @jax.jit
    def loss(theta):
        tx = SMALL.opt(theta, 10)

        def step(carry, scale):
            p, state = carry
            gradients = jax.tree.map(lambda x: scale * jnp.sin(x + 1.0), p)
            updates, state = tx.update(gradients, state, p, value=scale, eval_value=2.0 * scale)
            return (optax.apply_updates(p, updates), state), None

        (p, _), _ = jax.lax.scan(step, (params, tx.init(params)), jnp.array([0.0, 1.0, 2.0]))
        return sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(p)), jnp.float32(0.0))

    gradient = jax.jit(jax.grad(loss))(theta)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    slope = sum(map(jnp.vdot, jax.tree.leaves(gradient), jax.tree.leaves(direction)))

    def moved(by):
        return loss(jax.tree.map(lambda t, d: t + by * d, theta, direction))

    np.testing.assert_allclose(slope, (moved(1e-3) - moved(-1e-3)) / 2e-3, rtol=3e-2)


@pytest.mark.parametrize("chunk", [8, 5, 100])  # divides 40, leaves a rest, is larger
def test_pooled_outputs_are_means_over_the_scalars(monkeypatch, chunk):
    assert CHUNK > 100
    monkeypatch.setattr("learned_opt.learned.parts.scalar_network.CHUNK", chunk)
    draw = np.random.default_rng(0)
    sizes = ((3, 4), (4,), (4, 2), (2,), (4, 5), (5,))
    w0, b0, w1, b1, w2, b2 = (jnp.asarray(draw.normal(size=s), jnp.float32) for s in sizes)
    x = jnp.asarray(draw.normal(size=(3, 10, 4)), jnp.float32)
    layers, pooled = [(w0, b0), (w1, b1)], (w2, b2)
    (a, b), mean = pooled_network(layers, pooled, lambda *rows: list(rows), [x[:2], x[2:]], (10, 4))
    hidden = np.maximum(np.einsum("fij,fh->ijh", x, w0) + b0, 0.0)
    np.testing.assert_allclose(np.stack([a, b], -1), hidden @ w1 + b1, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean, (hidden @ w2 + b2).mean((0, 1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"hidden": 0}, {"lstm_hidden": 0}, {"exp_mult": 0.0}, {"step_mult": float("inf")}]
)
def test_refuses_what_cannot_be(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name}: {value} is not allowed"):
        TensorLSTM(**wrong)
