"""relative_soap against the same formulas in NumPy, in float64, and at its edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt import eval_params, make
from learned_opt.anchors.base import Plan
from learned_opt.anchors.relative_soap import RelativeSoap
from learned_opt.hand.relative_soap import relative_soap


def unfolded(x, axis):
    return np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)


def rotated(x, bases, back=False):
    for axis, q in bases.items():
        x = np.moveaxis(np.tensordot(q if back else q.T, x, axes=(1, axis)), 0, axis)
    return x


class Tensor:
    """One tensor under the rule, in float64."""

    def __init__(self, p, b1=0.9, b2=0.95, b3=0.95, interval=5, cautious=True):
        self.p, self.t = p.astype(np.float64), 0
        self.m, self.v = np.zeros(p.shape), np.zeros(p.shape)
        self.axes = [i for i, n in enumerate(p.shape) if n > 1] if p.ndim > 1 else []
        self.factors = {i: np.zeros((p.shape[i],) * 2) for i in self.axes}
        self.bases = {}
        self.b1, self.b2, self.b3, self.interval = b1, b2, b3, interval
        self.cautious = cautious

    def refresh(self):
        for axis in self.axes:
            factor = self.factors[axis]
            if self.t == 1:
                self.bases[axis] = np.linalg.eigh(factor)[1][:, ::-1]
            elif self.t % self.interval == 0:
                q = self.bases[axis]
                order = np.argsort(-np.diag(q.T @ factor @ q))
                self.v = np.take(self.v, order, axis)
                self.bases[axis] = np.linalg.qr(factor @ q[:, order])[0]

    def step(self, g, pace, decay=0.0):
        self.t += 1
        for axis in self.axes:
            rows = unfolded(g, axis)
            self.factors[axis] = self.b3 * self.factors[axis] + (1 - self.b3) * rows @ rows.T
        self.refresh()
        self.v = self.b2 * self.v + (1 - self.b2) * rotated(g, self.bases) ** 2
        self.m = self.b1 * self.m + (1 - self.b1) * g
        v = self.v / (1 - self.b2**self.t)
        u = rotated(self.m, self.bases) / (1 - self.b1**self.t) / (np.sqrt(v) + 1e-12)
        if self.axes:
            u = np.where(np.sqrt(v) <= 64 * 2.0**-23 * np.sqrt(v.sum()), 0, u)
        size = max(np.sqrt(np.mean(self.p**2)), 0.05)
        direction = rotated(u, self.bases, back=True)
        decays = (self.p.ndim > 1) & (True if not self.cautious else direction * self.p > 0)
        self.p = self.p - pace * (size * direction + decay * np.where(decays, self.p, 0.0))


def pace(t, horizon, rate=0.1):
    """Of a network so small that its size does not count."""
    t = min(t, horizon)
    gain = min(3.0, (1000 / horizon) ** 0.6)
    return rate * gain * min(1, t / max(1, 3 * horizon // 100)) * (1 - (t - 1) / horizon) ** 2


def shapes(generator):
    """A first gradient leaves at most one direction of each axis open, so the basis is unique."""
    drawn = lambda *shape: (0.3 * generator.normal(size=shape)).astype("f4")
    return {
        "matrix": drawn(5, 6),
        "kernel": drawn(3, 2, 4),
        "row": drawn(1, 2),
        "bias": drawn(3),
        "scalar": drawn(),
    }


def correlated(generator, shape):
    """Gradients with a clear eigenbasis, so that rounding does not choose it."""
    scale = np.ones(shape)
    for axis, n in enumerate(shape):
        across = [1] * len(shape)
        across[axis] = n
        scale = scale * (1.0 + np.arange(n)).reshape(across)
    return (scale * generator.normal(size=shape)).astype("f4")


@pytest.mark.parametrize(
    ("horizon", "steps", "chosen"),
    [
        (100, 12, {}),
        (4, 7, {"weight_decay": 0.1}),
        (4, 7, {"weight_decay": 0.1, "cautious": False}),
        (1, 3, {"learning_rate": 0.03, "b1": 0.8, "b2": 0.9, "b3": 0.9, "update_interval": 3}),
    ],
)
def test_follows_the_formulas(horizon, steps, chosen):
    generator = np.random.default_rng(3)
    tensors = shapes(generator)
    gradients = [
        {name: correlated(generator, p.shape) for name, p in tensors.items()} for _ in range(steps)
    ]
    options = dict(chosen)
    rate, decay = options.pop("learning_rate", 0.1), options.pop("weight_decay", 0.0)
    options["interval"] = options.pop("update_interval", 5)
    expected = {name: Tensor(p, **options) for name, p in tensors.items()}
    tx = make("relative_soap", num_steps=horizon, **{"weight_decay": 0.0} | chosen)
    params = jax.tree.map(jnp.asarray, tensors)
    state, update = tx.init(params), jax.jit(tx.update)
    for t, gradient in enumerate(gradients, 1):
        updates, state = update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        for name, tensor in expected.items():
            tensor.step(gradient[name].astype(np.float64), pace(t, horizon, rate), decay)
    for name, tensor in expected.items():
        np.testing.assert_allclose(params[name], tensor.p, rtol=2e-4, atol=2e-5, err_msg=name)


def test_golden_values():
    """Computed by an independent program in float64."""
    a, j = np.array([[1, 0.5, -0.2], [0.3, -1, 0.8]]), np.arange(6).reshape(2, 3)
    params = {"w": jnp.array([[0.5, -0.25, 0.1], [0.2, 0.4, -0.3]]), "b": jnp.array([0.0, 0.1])}
    tx = relative_soap(0.1, 1000, weight_decay=0.0)
    state = tx.init(params)
    golden = {
        1: ([0.498994107, -0.250337025, 0.100094093, 0.199676305, 0.400787484, -0.300639805],
            [-0.0002357, 0.1002357]),
        4: ([0.496039593, -0.247197511, 0.102154268, 0.193631374, 0.409065907, -0.315740713],
            [-0.00225102, 0.10225102]),
        6: ([0.490192855, -0.248386395, 0.100707683, 0.185196407, 0.421051648, -0.325628847],
            [-0.00474522, 0.10474522]),
    }  # fmt: skip
    for t in range(1, 7):
        grads = {
            "w": jnp.asarray(a * (1 + 0.3 * (t - 1)) + 0.1 * np.cos(j + t - 1), jnp.float32),
            "b": jnp.asarray(np.array([0.2, -0.1]) * t, jnp.float32),
        }
        updates, state = jax.jit(tx.update)(grads, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        if t in golden:
            np.testing.assert_allclose(params["w"].ravel(), golden[t][0], atol=2e-7)
            np.testing.assert_allclose(params["b"], golden[t][1], atol=2e-7)


def run(tx, gradients, params):
    def step(carry, gradient):
        params, state = carry
        updates, state = tx.update(gradient, state, params)
        return (jax.tree.map(jnp.add, params, updates), state), None

    return jax.jit(lambda p, g: jax.lax.scan(step, (p, tx.init(p)), g)[0])(params, gradients)


@pytest.mark.parametrize("horizon", [400, None])
def test_a_large_network_takes_smaller_steps(horizon):
    """At update 30 of 400 the warm-up is over, and 0.83 of the square of what is left."""
    plan, count = Plan(horizon, 1_000_000), jnp.int32(30)
    large = float(RelativeSoap().pace(plan, count))
    small = float(RelativeSoap().pace(plan._replace(num_params=10_000), count))
    decayed = (1 - 29 / 400) ** 2 if horizon else 1.0
    assert large == pytest.approx(28 * 1e6**-0.25 * decayed, rel=1e-5)
    without = (1000 / 400) ** 0.6 if horizon else 0.3 * (1000 / 60) ** 0.6
    assert small == pytest.approx(without * decayed, rel=1e-5)


def test_anytime_follows_its_rate_and_averages():
    generator = np.random.default_rng(0)
    gradients = jnp.asarray(generator.normal(size=(40, 3)), jnp.float32)
    params, state = run(make("relative_soap"), gradients, jnp.array([0.2, -0.3, 0.5]))
    tensor, average = Tensor(np.array([0.2, -0.3, 0.5])), np.array([0.2, -0.3, 0.5])
    for t, gradient in enumerate(np.asarray(gradients, np.float64), 1):
        tensor.step(gradient, 0.03 * (1000 / (t + 30)) ** 0.6 * min(1, t / 30))
        average += min(1, 5 / (t + 5)) * (tensor.p - average)
    np.testing.assert_allclose(params, tensor.p, rtol=1e-4)
    np.testing.assert_allclose(eval_params(state, params), average, rtol=1e-4)


def test_after_the_run_the_pace_stays():
    gradients = jnp.ones((6, 2))
    params, _ = run(relative_soap(0.1, 3), gradients[:4], jnp.ones(2))
    longer, _ = run(relative_soap(0.1, 3), gradients[:5], jnp.ones(2))
    last = float((params - longer)[0] / params[0])
    assert last == pytest.approx(0.3 / 9, rel=1e-3)


@pytest.mark.parametrize("horizon", [1, 10**9])
def test_extreme_lengths_stay_finite(horizon):
    generator = np.random.default_rng(0)
    gradients = jnp.asarray(generator.normal(size=(5, 4, 3)), jnp.float32)
    params, _ = run(relative_soap(0.1, horizon), gradients, jnp.ones((4, 3)))
    assert jnp.all(jnp.isfinite(params))


@pytest.mark.parametrize("masked", [np.s_[1, 2], np.s_[1], np.s_[:, 2]], ids=str)
def test_entries_without_a_gradient_do_not_move(masked):
    generator = np.random.default_rng(0)
    mask = np.ones((4, 5))
    mask[masked] = 0
    gradients = jnp.asarray(mask * generator.normal(size=(30, 4, 5)), jnp.float32)
    params, _ = run(relative_soap(0.1, 30, weight_decay=0.0), gradients, jnp.ones((4, 5)))
    assert np.all((np.asarray(params) == 1) == (mask == 0))


def test_rank_one_gradients_move_along_themselves():
    generator = np.random.default_rng(0)
    left, right = generator.normal(size=4), generator.normal(size=6)
    gradient = np.outer(left, right)
    gradients = jnp.asarray(np.tile(gradient, (20, 1, 1)), jnp.float32)
    params, _ = run(relative_soap(0.1, 20, weight_decay=0.0), gradients, jnp.ones((4, 6)))
    moved = np.asarray(params) - 1
    cosine = -np.sum(moved * gradient) / np.linalg.norm(moved) / np.linalg.norm(gradient)
    assert cosine > 0.9999


def test_thousands_of_zero_gradients_are_harmless():
    generator = np.random.default_rng(0)
    gradients = np.zeros((3000, 3, 4), np.float32)
    gradients[[0, 1, -1]] = generator.normal(size=(3, 3, 4))
    params, state = run(relative_soap(0.1, 3000), jnp.asarray(gradients), jnp.ones((3, 4)))
    assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves((params, state)))


def test_runs_side_by_side_are_the_runs_alone():
    """Each at an update of its own, some due for a refresh and some not."""
    tx = relative_soap(0.1, 50)
    generator = np.random.default_rng(0)
    params = jnp.asarray(generator.normal(size=(7, 3, 4)), jnp.float32)
    gradients = jnp.asarray(generator.normal(size=(12, 7, 3, 4)), jnp.float32)
    states = []
    for i in range(7):
        _, state = run(tx, gradients[: i + 1, i], params[i])
        states.append(state)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *states)
    together, _ = jax.jit(jax.vmap(tx.update))(gradients[9], stacked, params)
    alone = [tx.update(gradients[9, i], states[i], params[i])[0] for i in range(7)]
    np.testing.assert_allclose(together, jnp.stack(alone), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("chosen", [{"one_side": True}, {"max_dim": 4}, {"method": "jacobi"},
                                    {"spread": True}], ids=str)  # fmt: skip
def test_cheaper_forms_find_the_minimum_of_a_badly_scaled_regression(chosen):
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.normal(size=(64, 8)) * np.logspace(0, 1.5, 8), jnp.float32)
    y = x @ jnp.asarray(generator.normal(size=(8, 8)) / np.logspace(0, 1.5, 8)[:, None], "float32")
    loss = lambda p: jnp.mean(jnp.square(x @ p["w"] - y)) + jnp.mean(jnp.square(p["b"] - 1))
    tx = relative_soap(0.1, 300, weight_decay=0.0, **chosen)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return (jax.tree.map(jnp.add, params, updates), state), None

    start = {"w": jnp.zeros((8, 8)), "b": jnp.zeros(8)}
    final, _ = jax.jit(lambda: jax.lax.scan(step, (start, tx.init(start)), None, 300)[0])()
    assert loss(final) < 1e-4 * loss(start)


def test_refused_by_name():
    with pytest.raises(ValueError, match="method.*qr"):
        make("relative_soap", num_steps=10, method="svd")
    with pytest.raises(ValueError, match="max_dim"):
        make("relative_soap", num_steps=10, max_dim=0)
