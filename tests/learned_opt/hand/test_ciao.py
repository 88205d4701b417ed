"""CIAO against its equations written again in NumPy, against optax, and where it is invariant."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt import inject, make
from learned_opt.hand.ciao import DEFAULTS, ciao, ciao_init, ciao_step
from learned_opt.hand.ciao_options import OPTIONS, CiaoOptions

SHAPES = {"bias": (3,), "kernel": (4, 3), "conv": (2, 2, 3), "scale": ()}
ADAM = CiaoOptions(denominator=2, clip="none", trust="none", decay_inside=False)


def drawn(seed, steps):
    """(parameters, gradients of so many steps) with noise, growth and a zero entry."""
    draw = np.random.default_rng(seed)
    params = {name: draw.normal(size=shape) for name, shape in SHAPES.items()}
    sizes = np.exp(draw.normal(size=steps))
    gradients = {
        name: draw.normal(size=(steps, *shape)) * sizes.reshape(-1, *[1] * len(shape))
        for name, shape in SHAPES.items()
    }
    gradients["bias"][:, 1] = 0.0
    single = lambda tree: {name: jnp.asarray(x, jnp.float32) for name, x in tree.items()}
    return single(params), single(gradients)


def trajectory(params, gradients, hyper, options=None):
    """Parameters, what was made on the way and the last state; hyper: a row of values per step."""
    options = CiaoOptions() if options is None else options

    def step(carry, seen):
        params, state = carry
        updates, state, quantities = ciao_step(seen[0], state, params, seen[1], options)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, quantities)

    start = params, ciao_init(params, options)
    (_, state), (params, quantities) = jax.lax.scan(step, start, (gradients, hyper))
    return params, quantities, state


def constant(steps, **chosen):
    return {name: jnp.full(steps, value) for name, value in (DEFAULTS | chosen).items()}


class Reference:
    """The published equations one tensor and one option after the other, in double precision."""

    def __init__(self, params, options):
        self.p = {name: np.float64(x) for name, x in params.items()}
        self.o: dict[str, Any] = OPTIONS | options
        zero = {name: np.zeros_like(x) for name, x in self.p.items()}
        self.m, self.v, self.prev, self.log_rate, self.sq = (dict(zero) for _ in range(5))
        self.cache, self.norms = dict(self.p), dict.fromkeys(self.p, 0.0)
        self.B1 = self.B2 = self.BU = self.R = 0.0
        self.z = [0.0, 0.0, 0.0]
        self.eps_z = {name: [0.0, 0.0, 0.0] for name in self.p}
        self.t = 0
        self.start = np.sqrt(sum((x**2).sum() for x in self.p.values()))

    @staticmethod
    def spread(kept, x, small):
        kept[2] = (1 - small) * kept[2] + small
        kept[0] = (1 - small) * kept[0] + small * np.mean(x)
        mean = kept[0] / kept[2]
        kept[1] = (1 - small) * kept[1] + small * np.mean((x - mean) ** 2)
        return mean, np.sqrt(kept[1] / kept[2])

    def clip(self, g, h):
        G = np.sqrt(sum((x**2).sum() for x in g.values()))
        kind, small = self.o["clip"], h["one_minus_clip_decay"]
        if kind == "normalize":
            return {n: x / (G + 1e-8) for n, x in g.items()}
        self.R = max(G, (1 - small) * self.R)
        bound = {"rolling_max": self.R, "param_norm": self.start}.get(kind, 1.0) * h["clip_ratio"]
        if kind == "z_score":
            mean, deviation = self.spread(self.z, np.log(G + 1e-15), small)
            bound = np.exp(mean + self.o["clip_z"] * deviation)
        factor = min(1.0, np.inf if kind == "none" else bound / (G + 1e-6))
        return {n: x * factor for n, x in g.items()}

    def hypergradient(self, n, g, eps):
        o = self.o
        if o["hyper_rate"] is None or self.t == 1:
            return
        seen = 1 - (1 - (o["one_minus_hyper_previous"] or 1.0)) ** (self.t - 1)
        h = g * self.prev[n] / seen
        if o["one_minus_hyper_rms"] is not None:
            small = o["one_minus_hyper_rms"]
            self.sq[n] = (1 - small) * self.sq[n] + small * h**2
            h = h / (np.sqrt(self.sq[n] / (1 - (1 - small) ** (self.t - 1))) + eps)
        term = o["hyper_rate"] * h
        new = self.log_rate[n] + (np.log(1 + term) if o["hyper_form"] == "product" else term)
        new = new * (1 - o["hyper_rate"] * (o["hyper_decay"] or 0.0))
        bound = o["hyper_clip"]
        self.log_rate[n] = new if bound is None else bound * np.tanh(new / bound)

    def step(self, g, h):
        o, self.t = self.o, self.t + 1
        g = self.clip({n: np.float64(x) for n, x in g.items()}, h)
        a, b, c = h["one_minus_b1"], h["one_minus_b2"], h["one_minus_norm_decay"]
        self.B1, self.B2 = (1 - a) * self.B1 + a, (1 - b) * self.B2 + b
        self.BU = (1 - c) * self.BU + c
        for n, p in self.p.items():
            x, eps, q = g[n], h["eps"], o["denominator"]
            self.hypergradient(n, x, eps)
            if o["centralize"] is not None and p.ndim >= 2:
                x = x - o["centralize"] * x.mean(axis=tuple(range(p.ndim - 1)), keepdims=True)
            self.m[n] = (1 - a) * self.m[n] + a * x
            size = abs(x - self.m[n]) if o["belief"] else abs(x)
            if q == "max":
                self.v[n] = s = np.maximum((1 - b) * self.v[n], size)
            else:
                self.v[n] = (1 - b) * self.v[n] + b * size**q
                s = (self.v[n] / self.B2) ** (1 / q)
            if o["eps_z"] is not None:
                seen = np.log(s + 1e-8) if o["eps_log"] else s
                mean, dev = self.spread(self.eps_z[n], seen, o["one_minus_eps_decay"])
                added = mean + o["eps_z"] * dev
                eps = eps + (np.exp(added) if o["eps_log"] else added)
            nu = 1.0 if o["qhadam_nu"] is None else o["qhadam_nu"]
            u = (nu * self.m[n] + (1 - nu) * x) / (self.B1 * (s + eps))
            if o["update_clip"] is not None:
                u = np.clip(u, -o["update_clip"], o["update_clip"])
            if o["balance"] is not None:
                u = u * np.exp(np.log(np.maximum(abs(u), 1e-30)).mean()) ** o["balance"]
            if o["hyper_rate"] is not None:
                small = o["one_minus_hyper_previous"] or 1.0
                self.prev[n] = (1 - small) * self.prev[n] + small * u
                u = u * np.exp(self.log_rate[n])
            self.p[n] = self.moved(n, p, u, h)
        return self.p

    def moved(self, n, p, u, h):
        o, matrix = self.o, p.ndim >= 2
        lr, wd = h["learning_rate"], h["weight_decay"]
        if not matrix:
            lr, wd = lr * h["vector_rate_multiplier"], wd * h["vector_decay_multiplier"]
            lr = lr if o["vector_rate"] is None else o["vector_rate"]
            wd = wd if o["vector_decay"] is None else o["vector_decay"]
        elif o["fan_in_power"] is not None:
            lr = lr * (1 / np.sqrt(p.size / p.shape[-1])) ** o["fan_in_power"]
        u = u + wd * p if o["decay_inside"] else u
        lr = lr * (np.sqrt(2 / (2 - self.B2) - 1) if o["radam_warmup"] else 1.0)
        c, size = h["one_minus_norm_decay"], np.sqrt((u**2).sum())
        self.norms[n] = (1 - c) * self.norms[n] + c * size
        size = self.norms[n] / self.BU if o["trust"] == "smooth" else size
        length = np.sqrt((p**2).sum())
        wanted = o["trust"] != "none" and (matrix or o["trust_vectors"])
        if wanted and length >= 1e-8 and size >= 1e-8:
            most = np.inf if o["most_trust"] is None else o["most_trust"]
            lr = lr * np.clip(length / size, o["least_trust"], most) ** o["trust_power"]
        new = (p if o["decay_inside"] else p * (1 - lr * wd)) - lr * u
        if o["lookahead"] is not None and self.t % o["lookahead_every"] == 0:
            new = o["lookahead"] * new + (1 - o["lookahead"]) * self.cache[n]
            self.cache[n] = new
        return new


CHOICES = {
    "published": {},
    "adam with decay outside": {
        "denominator": 2,
        "decay_inside": False,
        "clip": "absolute",
        "radam_warmup": True,
        "trust": "plain",
        "most_trust": 2.0,
        "trust_power": 0.5,
        "vector_rate": 3e-2,
        "hyper_rate": 0.1,
        "hyper_form": "product",
        "hyper_clip": 0.2,
    },
    "gradient side": {
        "clip": "z_score",
        "clip_z": 0.5,
        "centralize": 0.7,
        "qhadam_nu": 0.6,
        "denominator": 1.5,
        "belief": True,
        "lookahead": 0.4,
        "lookahead_every": 3,
        "trust_vectors": True,
        "eps_z": 0.3,
        "eps_log": True,
    },
    "step side": {
        "clip": "param_norm",
        "update_clip": 0.7,
        "least_trust": 0.5,
        "fan_in_power": 0.5,
        "eps_z": 1.0,
        "one_minus_eps_decay": 0.2,
        "vector_decay": 0.1,
        "hyper_rate": 0.05,
        "hyper_decay": 0.5,
        "one_minus_hyper_previous": 0.3,
        "one_minus_hyper_rms": 0.2,
    },
    "normalized and balanced": {"clip": "normalize", "balance": 0.3, "trust": "none"},
}


@pytest.mark.parametrize("chosen", CHOICES.values(), ids=CHOICES.keys())
def test_the_published_equations(chosen):
    """With every hyperparameter changed on the way, as a controller does."""
    steps, draw = 12, np.random.default_rng(3)
    params, gradients = drawn(1, steps)
    starts = DEFAULTS | {"learning_rate": 0.03, "eps": 1e-3, "weight_decay": 0.05}
    jumps = {name: np.exp(draw.normal(size=steps)) for name in starts}
    hyper = {name: np.minimum(starts[name] * jumps[name], 0.9) for name in starts}
    run = jax.jit(lambda p, g, h: trajectory(p, g, h, CiaoOptions(**chosen)))
    found = run(params, gradients, {n: jnp.float32(x) for n, x in hyper.items()})[0]
    reference = Reference(params, chosen)
    for t in range(steps):
        want = reference.step({n: x[t] for n, x in gradients.items()}, at(hyper, t))
        for name in SHAPES:
            np.testing.assert_allclose(found[name][t], want[name], rtol=1e-5, atol=2e-6)
    assert all(not np.allclose(found[name][-1], params[name], atol=1e-3) for name in SHAPES)


def at(tree, t):
    return {name: np.float64(x[t]) for name, x in tree.items()}


def test_every_option_is_compared():
    defaults = {"clip", "trust", "denominator"}  # whose published values are compared too
    used = {name for chosen in CHOICES.values() for name in chosen} | defaults
    assert used == {*OPTIONS}


def test_plain_it_is_adamw_and_the_maximum_is_adamax():
    """Adamax with eps so small that it does not matter where it stands."""
    steps = 100
    params, gradients = drawn(2, steps)
    first, second = 0.1, 1e-3

    def optax_run(tx):
        def step(carry, g):
            updates, state = tx.update(g, carry[1], carry[0])
            params = optax.apply_updates(carry[0], updates)
            return (params, state), params

        return jax.lax.scan(step, (params, tx.init(params)), gradients)[1]

    @jax.jit
    def both():
        hyper = constant(steps, one_minus_b1=first, one_minus_b2=second, eps=1e-8)
        adamw = optax_run(optax.adamw(1e-3, 1 - first, 1 - second, 1e-8, weight_decay=1e-2))
        plain = trajectory(params, gradients, hyper, ADAM)[0]
        still = hyper | constant(steps, eps=1e-30, weight_decay=0.0)
        adamax = optax_run(optax.adamax(1e-3, 1 - 0.1, 1 - 1e-2, 1e-30))
        options = CiaoOptions(clip="none", trust="none")
        return plain, adamw, trajectory(params, gradients, still, options)[0], adamax

    plain, adamw, largest, adamax = both()
    for name in SHAPES:
        np.testing.assert_allclose(plain[name], adamw[name], atol=1e-6)
        np.testing.assert_allclose(largest[name], adamax[name], atol=2e-6)


@jax.jit
def published_run(scale, eps):
    params, gradients = drawn(4, 30)
    seen = jax.tree.map(lambda g: scale * g, gradients)
    return trajectory(params, seen, constant(30, eps=eps, learning_rate=1e-2, weight_decay=0.1))


def test_the_scale_of_the_loss_does_not_matter():
    unit = published_run(1.0, 1e-12)[0]
    for scale in (1e-2, 10.0, 1e3):
        other = published_run(scale, 1e-12)[0]
        for name in SHAPES:
            np.testing.assert_allclose(other[name], unit[name], rtol=2e-4, atol=2e-5)


def test_steps_of_matrices_are_relative_and_of_vectors_absolute():
    params, _ = drawn(4, 30)
    moved, made, state = published_run(1.0, 1e-6)
    for name in SHAPES:
        before = np.concatenate([params[name][None], moved[name][:-1]]).reshape(30, -1)
        step = np.linalg.norm(moved[name].reshape(30, -1) - before, axis=1)
        size = np.linalg.norm(made.direction[name].reshape(30, -1), axis=1)
        if name in ("bias", "scale"):
            np.testing.assert_allclose(made.rate[name], 1e-2, rtol=1e-6)
            np.testing.assert_allclose(step, 1e-2 * size, rtol=1e-3, atol=1e-6)
            continue
        average = weight = 0.0
        for t in range(30):
            average, weight = 0.95 * average + 0.05 * size[t], 0.95 * weight + 0.05
            relative = step[t] / np.linalg.norm(before[t])
            np.testing.assert_allclose(relative, 1e-2 * size[t] / (average / weight), rtol=2e-3)
    assert state.count == 30


def test_clipping_follows_the_largest_norm_so_far():
    """By hand: ratio 0.8, decay 0.5; new maxima are always clipped."""
    sizes = jnp.array([1.0, 0.3, 4.0, 1.5, 0.5])
    hyper = constant(5, clip_ratio=0.8, one_minus_clip_decay=0.5)
    gradients = {"w": sizes[:, None] * jnp.array([0.6, 0.8])}
    run = lambda g: trajectory({"w": jnp.ones(2)}, g, hyper)
    _, made, state = jax.jit(run)(gradients)
    # R: 1, max(0.3, 0.5), 4, max(1.5, 2), max(0.5, 1); bounds: 0.8 of that
    np.testing.assert_array_equal(made.clipped, [True, False, True, False, False])
    kept = np.linalg.norm(made.gradients["w"], axis=1)
    np.testing.assert_allclose(kept, [0.8, 0.3, 3.2, 1.5, 0.5], rtol=2e-6)
    np.testing.assert_allclose(state.largest, 1.0)


def test_a_decay_changed_on_the_way_makes_no_jump():
    """Constant gradient: the step keeps its size; optax's correction by 1 - b2^t breaks it."""
    values = jnp.repeat(jnp.array([0.1, 1e-2, 1e-3, 1e-4]), 50)
    gradients = {"w": jnp.full((200, 2), 0.3)}
    params = {"w": jnp.ones(2)}
    steered = inject("ciao", 10, learning_rate=1e-3, eps=1e-12, weight_decay=0.0, denominator=2)

    def step(carry, seen):
        params, state = carry
        state.hyperparams["one_minus_b2"] = seen[1]
        updates, state = steered.update(seen[0], state, params)
        return (optax.apply_updates(params, updates), state), updates

    run = lambda: jax.lax.scan(step, (params, steered.init(params)), (gradients, values))[1]
    steps = jax.jit(run)()
    np.testing.assert_allclose(steps["w"], -1e-3, rtol=1e-3)


def test_one_program_serves_every_value_and_batches_over_environments():
    params, gradients = drawn(5, 4)
    traces = []

    def run(hyper):
        traces.append(1)
        return trajectory(params, gradients, hyper)[0]

    rates = jnp.array([1e-3, 1e-1])
    hypers = {n: jnp.full((2, 4), x) for n, x in DEFAULTS.items()}
    hypers["learning_rate"] = jnp.tile(rates[:, None], (1, 4))
    together = jax.jit(jax.vmap(run))(hypers)
    alone = jax.jit(run)
    for i in range(2):
        one = alone({n: x[i] for n, x in hypers.items()})
        for name in SHAPES:
            np.testing.assert_allclose(together[name][i], one[name], rtol=1e-5, atol=1e-6)
    assert len(traces) == 2


def test_what_is_not_trained_stays_and_non_finite_entries_count_as_zero():
    params = {"w": jnp.ones((2, 2)), "n": jnp.arange(3), "none": jnp.zeros((0, 2))}
    bad = jnp.array([[jnp.nan, 1.0], [jnp.inf, -2.0]])
    labels = np.zeros(3, jax.dtypes.float0)
    gradients = {"w": bad, "n": labels, "none": params["none"]}
    tame = gradients | {"w": jnp.where(jnp.isfinite(bad), bad, 0.0)}
    tx = ciao(1e-2)
    found, _ = jax.jit(lambda: tx.update(gradients, tx.init(params), params))()
    want, _ = jax.jit(lambda: tx.update(tame, tx.init(params), params))()
    np.testing.assert_array_equal(found["w"], want["w"])
    np.testing.assert_array_equal(found["n"], 0)
    assert found["n"].dtype == params["n"].dtype and found["none"].shape == (0, 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"clip": "rolling"}, "ciao.clip: unknown name 'rolling'; did you mean rolling_max"),
        ({"trust": "smoth"}, "ciao.trust: unknown name 'smoth'; did you mean smooth"),
        ({"denominator": 0}, "ciao.denominator: 0 is not allowed; it must be max or above 0"),
        ({"qhadam_nu": 1.5}, "ciao.qhadam_nu: 1.5 is not allowed; it must be from 0 to 1"),
        ({"hyper_rate": -1.0}, "ciao.hyper_rate: -1.0 is not allowed; it must be above 0"),
        ({"one_minus_hyper_rms": 0}, "one_minus_hyper_rms: 0 .* above 0 and at most 1"),
        ({"lookahead_every": 0}, "ciao.lookahead_every: 0 is not allowed"),
        ({"hyper_form": "log"}, "ciao.hyper_form: unknown name 'log'"),
        ({"eps": 0.0}, "ciao.eps: 0.0 is not allowed; it must be above 0"),
        ({"one_minus_b2": 1.5}, "ciao.one_minus_b2: 1.5 .* above 0 and below 1"),
    ],
)
def test_wrong_choices_are_told(fields, message, unchecked):
    with pytest.raises(ValueError, match=message):
        make("ciao", 10, **fields)


@pytest.mark.parametrize("given", [{}, {"clip": "z_score", "eps_z": 1.0, "hyper_rate": 0.1}])
def test_in_programs_of_float64_the_state_stays_float32(given: Any):
    with jax.enable_x64(True):
        params = {"w": jnp.ones((3, 2), jnp.float64)}
        tx = make("ciao", **given)
        state = jax.eval_shape(tx.init, params)
        updates, after = jax.eval_shape(tx.update, params, state, params)
    assert updates["w"].dtype == jnp.float64
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)
    assert jnp.float64 not in [leaf.dtype for leaf in jax.tree.leaves(after)]
