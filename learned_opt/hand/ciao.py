"""CIAO: the Adam variant whose hyperparameters a controller edits while it runs."""

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from learned_opt.base import Params
from learned_opt.columns import is_trained, refuse_complex, tame
from learned_opt.hand import ciao_options as choices
from learned_opt.hand.assemble import Whole
from learned_opt.hand.ciao_options import PUBLISHED, CiaoOptions, Extras, ema, norm
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.prodigy import scheduled
from learned_opt.hand.spec import HandDesigned

SMALLEST_NORM = 1e-8  # of parameters and of steps that have a trust ratio
# What a step is made with by default. `one_minus_` forms keep small numbers exact.
DEFAULTS: dict[str, float] = {
    "learning_rate": 1e-3,
    "weight_decay": 1e-2,
    "eps": 1e-6,
    "one_minus_b1": 0.1,
    "one_minus_b2": 1e-2,
    "clip_ratio": 0.8,
    "one_minus_clip_decay": 1e-2,
    "one_minus_norm_decay": 0.05,
    "vector_rate_multiplier": 1.0,
    "vector_decay_multiplier": 1.0,
}


class CiaoState(NamedTuple):
    """Averages and the weight they have so far: 1 - b^t would be wrong once b changes."""

    count: Int[Array, ""]  # updates made so far
    mu: Params  # average of gradients
    nu: Params  # decaying maximum of |g|, or average of its power
    mu_weight: Float[Array, ""]
    nu_weight: Float[Array, ""]
    norm: Params  # average norm of the step before the rate, a number per tensor
    norm_weight: Float[Array, ""]
    largest: Float[Array, ""]  # decaying maximum of the global gradient norm
    extras: Extras


class Quantities(NamedTuple):
    """What one step was made of: float32, zero where a leaf is not trained."""

    gradients: Params  # clipped
    momentum: Params  # free of its start at zero
    scale: Params  # the denominator without eps
    direction: Params  # u, before the rate, with the weight decay that is inside
    rate: Params  # what u is multiplied by, a number per tensor
    clipped: Bool[Array, ""]  # whether the gradients were


def ciao_init(params: Params, options: CiaoOptions = PUBLISHED) -> CiaoState:
    """Zeros. Raises ValueError on complex leaves."""
    refuse_complex(params)
    params = jax.tree.map(_wide, params, params)
    zero = lambda: jnp.zeros((), jnp.float32)
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    norms = jax.tree.map(lambda p: zero(), params)
    extras = choices.fresh_extras(params, options)
    count = jnp.zeros((), jnp.int32)
    return CiaoState(count, zeros(), zeros(), zero(), zero(), norms, zero(), zero(), extras)


def ciao_step(
    gradients: Params,
    state: CiaoState,
    params: Params,
    hyper: Mapping[str, Scalar],
    options: CiaoOptions = PUBLISHED,
) -> tuple[Params, CiaoState, Quantities]:
    """One step of CIAO (arXiv:2106.00958): (updates, state, what it was made of).

    hyper: any of DEFAULTS, all of which may be traced. The order is: clip, averages, u = m_hat /
    (s + eps), weight decay, trust ratio of tensors of rank 2 and more, step; so their learning
    rate is relative to the norm of the tensor, that of vectors absolute. Averages are in float32.
    Entries of gradients that are not finite count as zero; integer leaves do not move.
    """
    hyper = {n: jnp.asarray(x, jnp.float32) for n, x in (DEFAULTS | dict(hyper)).items()}
    own = jax.tree.map(_wide, params, params)
    gradients = jax.tree.map(lambda g, p: tame(_wide(g, p)), gradients, params)
    gradients, clipped, largest, clip_extra = _clip(gradients, state, hyper, options)
    extras = state.extras._replace(clip=clip_extra)
    if (speed := options.hyper_rate) is not None:
        moved = choices.hyper_step(gradients, extras.hyper, hyper["eps"], speed, options)
        extras = extras._replace(hyper=moved)
    mu_weight = ema(state.mu_weight, 1.0, hyper["one_minus_b1"])
    state = state._replace(
        count=state.count + 1,
        mu_weight=mu_weight,
        nu_weight=ema(state.nu_weight, 1.0, hyper["one_minus_b2"]),
        norm_weight=ema(state.norm_weight, 1.0, hyper["one_minus_norm_decay"]),
        largest=largest,
        extras=extras,
    )
    seen = gradients
    if (part := options.centralize) is not None:
        seen = jax.tree.map(lambda g: choices.centralized(g, part), seen)
    mu = jax.tree.map(lambda m, g: ema(m, g, hyper["one_minus_b1"]), state.mu, seen)
    state = state._replace(mu=mu)
    scale, state = _scale(seen, state, hyper, options)
    direction, state = _direction(seen, scale, state, hyper, options)
    decay = jax.tree.map(lambda p: _decay(p, hyper, options), own)
    if options.decay_inside:
        direction = jax.tree.map(lambda u, p, d: u + d * p, direction, own, decay)
    rate, state = _rate(direction, own, state, hyper, options)
    updates = jax.tree.map(lambda u, r: -r * u, direction, rate)
    if not options.decay_inside:
        updates = jax.tree.map(lambda x, r, d, p: x - r * d * p, updates, rate, decay, own)
    if (share := options.lookahead) is not None:
        due = state.count % options.lookahead_every == 0
        updates, point = choices.looked_ahead(updates, own, state.extras.point, due, share)
        state = state._replace(extras=state.extras._replace(point=point))
    updates = jax.tree.map(lambda x, p: x.astype(jnp.result_type(p)), updates, params)
    momentum = jax.tree.map(lambda m: m / mu_weight, mu)
    return updates, state, Quantities(seen, momentum, scale, direction, rate, clipped)


def _wide(leaf: Any, param: Any) -> Float[Array, "..."]:
    """The leaf in float32; zeros where the parameter is not trained."""
    if not is_trained(param):
        return jnp.zeros(jnp.shape(param), jnp.float32)
    return jnp.asarray(leaf, jnp.float32)


def _clip(
    gradients: Params, state: CiaoState, hyper: Mapping[str, Scalar], options: CiaoOptions
) -> tuple[Params, Array, Array, Any]:
    """(gradients, whether they were clipped, largest norm, state of the kind of clipping)."""
    extra, largest = state.extras.clip, state.largest
    if options.clip == "none":
        return gradients, jnp.zeros((), bool), largest, extra
    size = choices.norm_of_tree(gradients)
    if options.clip == "normalize":
        normed = jax.tree.map(lambda g: g / (size + 1e-8), gradients)
        return normed, jnp.zeros((), bool), largest, extra
    largest = jnp.maximum(size, largest - hyper["one_minus_clip_decay"] * largest)
    bound = jnp.asarray(hyper["clip_ratio"])
    if options.clip == "rolling_max":
        bound = bound * largest
    elif options.clip == "param_norm":
        bound = bound * extra
    elif options.clip == "z_score":
        extra = extra.seeing(jnp.log(size + 1e-15), hyper["one_minus_clip_decay"])
        bound = jnp.exp(extra.above(options.clip_z))
    factor = bound / (size + 1e-6)
    kept = jax.tree.map(lambda g: g * jnp.minimum(factor, 1.0), gradients)
    return kept, factor < 1.0, largest, extra


def _scale(
    gradients: Params, state: CiaoState, hyper: Mapping[str, Scalar], options: CiaoOptions
) -> tuple[Params, CiaoState]:
    """(the denominators without eps, the state with what they are made of)."""
    small, q = hyper["one_minus_b2"], options.denominator
    residual = jax.tree.map(lambda g, m: g - m, gradients, state.mu)
    sizes = jax.tree.map(jnp.abs, residual if options.belief else gradients)
    if q == "max":
        nu = jax.tree.map(lambda v, a: jnp.maximum(v - small * v, a), state.nu, sizes)
        return nu, state._replace(nu=nu)
    powered = lambda x, power: jnp.sqrt(x) if power == 0.5 else x**power
    nu = jax.tree.map(lambda v, a: ema(v, a**q, small), state.nu, sizes)
    scale = jax.tree.map(lambda v: powered(v / state.nu_weight, 1.0 / q), nu)
    return scale, state._replace(nu=nu)


def _direction(
    gradients: Params,
    scale: Params,
    state: CiaoState,
    hyper: Mapping[str, Scalar],
    options: CiaoOptions,
) -> tuple[Params, CiaoState]:
    """(u without weight decay, the state with what its options keep)."""
    extras, eps, top = state.extras, jax.tree.map(lambda s: hyper["eps"], scale), state.mu
    if options.eps_z is not None:
        eps, spread = choices.wider_epsilon(scale, extras.epsilon, hyper["eps"], options)
        extras = extras._replace(epsilon=spread)
    if (share := options.qhadam_nu) is not None:
        top = jax.tree.map(lambda m, g: share * m + (1 - share) * g, top, gradients)
    u = jax.tree.map(lambda m, s, e: m / (state.mu_weight * (s + e)), top, scale, eps)
    if (bound := options.update_clip) is not None:
        u = jax.tree.map(lambda x: jnp.clip(x, -bound, bound), u)
    if (power := options.balance) is not None:
        u = jax.tree.map(lambda x: choices.balanced(x, power), u)
    if options.hyper_rate is not None:
        extras = extras._replace(hyper=choices.remembered(u, extras.hyper, options))
        u = jax.tree.map(lambda x, log_rate: x * jnp.exp(log_rate), u, extras.hyper.log_rate)
    return u, state._replace(extras=extras)


def _decay(param: Array, hyper: Mapping[str, Scalar], options: CiaoOptions) -> Scalar:
    """The weight decay of a tensor."""
    if param.ndim >= 2:
        return hyper["weight_decay"]
    if options.vector_decay is not None:
        return options.vector_decay
    return hyper["weight_decay"] * hyper["vector_decay_multiplier"]


def _base_rate(param: Array, hyper: Mapping[str, Scalar], options: CiaoOptions) -> Scalar:
    """The rate of a tensor before its trust ratio."""
    rate = hyper["learning_rate"]
    if param.ndim >= 2:
        power = options.fan_in_power
        return rate if power is None else rate * choices.fan_in_factor(param, power)
    if options.vector_rate is not None:
        return options.vector_rate
    return rate * hyper["vector_rate_multiplier"]


def _rate(
    direction: Params,
    params: Params,
    state: CiaoState,
    hyper: Mapping[str, Scalar],
    options: CiaoOptions,
) -> tuple[Params, CiaoState]:
    """(what u is multiplied by, a number per tensor; the state with the norms of u)."""
    small = hyper["one_minus_norm_decay"]
    norms = jax.tree.map(lambda u, old: ema(old, norm(u), small), direction, state.norm)
    warmup = jnp.sqrt(2 / (2 - state.nu_weight) - 1) if options.radam_warmup else 1.0

    def one(u: Array, p: Array, average: Array) -> Array:
        rate = jnp.asarray(warmup * _base_rate(p, hyper, options), jnp.float32)
        if options.trust == "none" or not (options.trust_vectors or p.ndim >= 2):
            return rate
        size = average / state.norm_weight if options.trust == "smooth" else norm(u)
        length = norm(p)
        measured = (length >= SMALLEST_NORM) & (size >= SMALLEST_NORM)
        ratio = length / jnp.where(measured, size, 1.0)
        ratio = jnp.clip(ratio, options.least_trust, options.most_trust) ** options.trust_power
        return jnp.where(measured, rate * ratio, rate)

    rates = jax.tree.map(one, direction, params, norms)
    return rates, state._replace(norm=norms)


def ciao(
    learning_rate: Any, options: CiaoOptions = PUBLISHED, **hyper: Scalar
) -> optax.GradientTransformation:
    """`ciao_step` as a transformation; learning_rate may be a schedule. hyper: of DEFAULTS."""

    def update(updates, state, params=None):
        rate = scheduled(learning_rate, state.count)
        found = ciao_step(updates, state, params, {**hyper, "learning_rate": rate}, options)
        return found[:2]

    return optax.GradientTransformation(lambda params: ciao_init(params, options), update)


def _by_keywords(learning_rate: Any, **given: Any) -> optax.GradientTransformation:
    hyper = {name: given.pop(name) for name in DEFAULTS if name in given}
    return ciao(learning_rate, CiaoOptions(**given), **hyper)


_RATE = inspect.Parameter("learning_rate", inspect.Parameter.POSITIONAL_OR_KEYWORD)
_KEYWORDS = {name: x for name, x in DEFAULTS.items() if name != "learning_rate"} | choices.OPTIONS
_by_keywords.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        _RATE,
        *(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
            for name, default in _KEYWORDS.items()
        ),
    ]
)
_SMALL = Hyperparameter("log", 1e-5, 1.0, most=1.0, open=True)
_MULTIPLIER = Hyperparameter("log", 1e-2, 1e2)

ENTRIES = (
    HandDesigned(
        "ciao",
        Whole(_by_keywords),
        DEFAULTS["learning_rate"],
        source="arXiv:2106.00958",
        formula="u = m_hat / (max(b2 v, |g|) + eps) + weight_decay w; matrices: u ||w|| / ||u||",
        needs=("params",),
        ranges=(
            ("weight_decay", Hyperparameter("log", 1e-8, 1.0)),
            ("eps", Hyperparameter("log", 1e-8, 1.0, open=True)),
            ("one_minus_b1", _SMALL),
            ("one_minus_b2", Hyperparameter("log", 1e-5, 0.1, most=1.0, open=True)),
            ("clip_ratio", Hyperparameter("linear", 0.01, 0.99, open=True)),
            ("one_minus_clip_decay", _SMALL),
            ("one_minus_norm_decay", _SMALL),
            ("vector_rate_multiplier", _MULTIPLIER),
            ("vector_decay_multiplier", _MULTIPLIER),
        ),
    ),
)
