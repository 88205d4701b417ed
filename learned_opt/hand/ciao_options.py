"""The static choices of CIAO, and what those that are off by default do."""

from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from learned_opt.base import Params
from learned_opt.hand.hyperparameters import Scalar
from learned_opt.hand.parts.base import check_count, units
from learned_opt.naming import check_name

CLIPS = ("rolling_max", "param_norm", "absolute", "z_score", "normalize", "none")
TRUSTS = ("smooth", "plain", "none")
SMALLEST = 1e-30  # float32 still has its inverse
_SHARES = ("centralize", "qhadam_nu", "balance", "lookahead", "trust_power", "fan_in_power")
_POSITIVE = ("update_clip", "hyper_rate", "hyper_decay", "hyper_clip", "most_trust")
_RATES = ("one_minus_eps_decay", "one_minus_hyper_previous", "one_minus_hyper_rms")


@dataclass(frozen=True)
class CiaoOptions:
    """The defaults are the published configuration; None is off.

    clip: the largest global gradient norm let through: clip_ratio times the largest so far, which
    decays (`rolling_max`); times the norm of the parameters at the start; by itself (`absolute`);
    `clip_z` deviations over its average, in logs; `normalize` divides by the norm. denominator:
    `max` of decaying |g|, or q of (average of |g|^q)^(1/q), where 2 is Adam's. belief: |g - m| for
    |g|. decay_inside: the trust ratio measures the step with its weight decay. trust: ||p|| over
    the average norm of u, over its norm, or none; to trust_power, within its bounds; of vectors
    only with trust_vectors. vector_rate, vector_decay: of tensors of rank 0 and 1, in place of the
    rule's own. radam_warmup: the rate times sqrt(2 / (2 - B2) - 1). centralize: what of each unit's
    mean gradient is taken off. qhadam_nu: of m, the rest is g. update_clip: of entries of u.
    balance: u times its geometric mean to this power. fan_in_power: matrices' rate times
    1 / sqrt(inputs) to this. eps_z: adds to eps so many deviations over the average of a tensor's
    denominators, in logs with eps_log. lookahead: every lookahead_every steps, so much of the way
    from the point of the last time. hyper_rate: of a log rate per entry, which follows
    g * previous u; `product` adds log(1 + .), `exponential` the term itself; hyper_decay pulls it
    back, hyper_clip bounds it by tanh, one_minus_hyper_previous averages u and one_minus_hyper_rms
    normalises the product.
    """

    clip: str = "rolling_max"
    clip_z: float = 2
    denominator: float | Literal["max"] = "max"
    belief: bool = False
    decay_inside: bool = True
    trust: str = "smooth"
    trust_power: float = 1
    least_trust: float = 1e-3
    most_trust: float | None = None
    trust_vectors: bool = False
    vector_rate: float | None = None
    vector_decay: float | None = None
    radam_warmup: bool = False
    centralize: float | None = None
    qhadam_nu: float | None = None
    update_clip: float | None = None
    balance: float | None = None
    fan_in_power: float | None = None
    eps_z: float | None = None
    one_minus_eps_decay: float = 1e-2
    eps_log: bool = False
    lookahead: float | None = None
    lookahead_every: int = 5
    hyper_rate: float | None = None
    hyper_form: Literal["product", "exponential"] = "exponential"
    hyper_decay: float | None = None
    hyper_clip: float | None = None
    one_minus_hyper_previous: float | None = None
    one_minus_hyper_rms: float | None = None

    def __post_init__(self) -> None:
        check_name("ciao.clip", self.clip, dict.fromkeys(CLIPS))
        check_name("ciao.trust", self.trust, dict.fromkeys(TRUSTS))
        check_name("ciao.hyper_form", self.hyper_form, {"product": 0, "exponential": 0})
        check_count("ciao.lookahead_every", self.lookahead_every)
        if self.denominator != "max":
            self._check("denominator", "max or above 0", lambda x: x > 0)
        for name in _SHARES:
            self._check(name, "from 0 to 1", lambda x: 0 <= x <= 1)
        for name in _POSITIVE:
            self._check(name, "above 0", lambda x: x > 0)
        for name in _RATES:
            self._check(name, "above 0 and at most 1", lambda x: 0 < x <= 1)

    def _check(self, name: str, allowed: str, holds: Any) -> None:
        value = getattr(self, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and holds(value)):
            raise ValueError(f"ciao.{name}: {value!r} is not allowed; it must be {allowed}")


PUBLISHED = CiaoOptions()
OPTIONS = {field.name: field.default for field in fields(CiaoOptions)}


def ema(old: Array, new: Any, one_minus_decay: Scalar) -> Array:
    """The average moved towards `new`; the small number is used as it is, 1 - it would lose it."""
    return old + one_minus_decay * (new - old)


class Spread(NamedTuple):
    """Running mean and variance of a number, with the weight they have; zero at first."""

    mean: Float[Array, ""]
    variance: Float[Array, ""]
    weight: Float[Array, ""]

    @staticmethod
    def fresh() -> "Spread":
        return Spread(*(jnp.zeros((), jnp.float32) for _ in range(3)))

    def seeing(self, x: Array, one_minus_decay: Scalar) -> "Spread":
        """Deviations are from the mean that includes x already, as in the original."""
        mean = ema(self.mean, jnp.mean(x), one_minus_decay)
        weight = ema(self.weight, 1.0, one_minus_decay)
        square = jnp.mean(jnp.square(x - mean / weight))
        return Spread(mean, ema(self.variance, square, one_minus_decay), weight)

    def above(self, deviations: float) -> Array:
        """So many standard deviations over the mean."""
        return self.mean / self.weight + deviations * jnp.sqrt(self.variance / self.weight)


class Hyper(NamedTuple):
    log_rate: Params  # of every entry
    previous: Params  # average of u before weight decay
    previous_weight: Float[Array, ""]
    square: Any  # average of squares of g * previous; () without one_minus_hyper_rms
    square_weight: Float[Array, ""]


class Extras(NamedTuple):
    """State of choices that need one; () for those that are off."""

    clip: Any = ()  # norm of the first parameters, or Spread of log norms
    epsilon: Any = ()  # Spread per tensor
    point: Any = ()  # the parameters of the last lookahead
    hyper: Any = ()  # Hyper


def fresh_extras(params: Params, options: CiaoOptions) -> Extras:
    """params: in float32."""
    copies = {"param_norm": norm_of_tree, "z_score": lambda p: Spread.fresh()}
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    square = zeros() if options.one_minus_hyper_rms else ()
    hyper = Hyper(zeros(), zeros(), jnp.zeros((), jnp.float32), square, jnp.zeros((), jnp.float32))
    return Extras(
        copies[options.clip](params) if options.clip in copies else (),
        jax.tree.map(lambda p: Spread.fresh(), params) if options.eps_z is not None else (),
        jax.tree.map(jnp.copy, params) if options.lookahead is not None else (),
        hyper if options.hyper_rate is not None else (),
    )


def norm(x: Array) -> Float[Array, ""]:
    return jnp.sqrt(jnp.sum(jnp.square(x)))


def norm_of_tree(tree: Params) -> Float[Array, ""]:
    squares = [jnp.sum(jnp.square(x)) for x in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, jnp.zeros((), jnp.float32)))


def centralized(g: Array, share: float) -> Array:
    """g without `share` of the mean over each unit's inputs; vectors as they are."""
    return g - share * jnp.mean(g, axis=units(g), keepdims=True) if g.ndim >= 2 else g


def balanced(u: Array, power: float) -> Array:
    """Entries of exactly 0 count as 1e-30: their logarithm would stop the tensor for good."""
    geometric_mean = jnp.exp(jnp.mean(jnp.log(jnp.maximum(jnp.abs(u), SMALLEST))))
    return u * geometric_mean**power


def fan_in_factor(p: Array, power: float) -> float:
    """1 / sqrt(inputs) to `power`, where the last axis is the output; 1 for vectors."""
    return (p.size / p.shape[-1]) ** (-0.5 * power) if p.ndim >= 2 else 1.0


def wider_epsilon(
    scale: Params, spread: Params, eps: Scalar, options: CiaoOptions
) -> tuple[Params, Params]:
    """(eps of every tensor with what its denominators add, their spreads)."""
    seen = jax.tree.map(lambda s: jnp.log(s + 1e-8) if options.eps_log else s, scale)
    small, z = options.one_minus_eps_decay, options.eps_z or 0.0
    spread = jax.tree.map(lambda s, kept: kept.seeing(s, small), seen, spread)
    above = jax.tree.map(lambda s, kept: kept.above(z), scale, spread)
    return jax.tree.map(lambda x: eps + (jnp.exp(x) if options.eps_log else x), above), spread


def looked_ahead(
    updates: Params, params: Params, point: Params, due: Bool[Array, ""], share: float
) -> tuple[Params, Params]:
    """(updates, point): where it is due, only `share` of the way from the point before."""
    moved = jax.tree.map(
        lambda u, p, c: jnp.where(due, share * (p + u) + (1 - share) * c - p, u),
        updates,
        params,
        point,
    )
    point = jax.tree.map(lambda u, p, c: jnp.where(due, p + u, c), moved, params, point)
    return moved, point


def hyper_step(
    gradients: Params, hyper: Hyper, eps: Scalar, rate: float, options: CiaoOptions
) -> Hyper:
    """The log rates after these gradients; as they are while no step was made."""
    known = hyper.previous_weight > 0
    weight = jnp.where(known, hyper.previous_weight, 1.0)
    product = jax.tree.map(lambda g, u: g * u / weight, gradients, hyper.previous)
    square, square_weight = hyper.square, hyper.square_weight
    if options.one_minus_hyper_rms is not None:
        small = jnp.where(known, options.one_minus_hyper_rms, 0.0)
        square = jax.tree.map(lambda s, h: ema(s, jnp.square(h), small), square, product)
        square_weight = ema(square_weight, 1.0, small)
        full = jnp.where(known, square_weight, 1.0)
        product = jax.tree.map(lambda h, s: h / (jnp.sqrt(s / full) + eps), product, square)

    def moved(log_rate: Array, h: Array) -> Array:
        term = rate * h
        new = log_rate + (jnp.log1p(term) if options.hyper_form == "product" else term)
        new = new * (1 - rate * (options.hyper_decay or 0.0))
        if options.hyper_clip is not None:
            new = options.hyper_clip * jnp.tanh(new / options.hyper_clip)
        return jnp.where(known, new, log_rate)

    log_rate = jax.tree.map(moved, hyper.log_rate, product)
    return hyper._replace(log_rate=log_rate, square=square, square_weight=square_weight)


def remembered(direction: Params, hyper: Hyper, options: CiaoOptions) -> Hyper:
    """With u, before weight decay and log rates, in the average of steps."""
    small = options.one_minus_hyper_previous or 1.0
    previous = jax.tree.map(lambda old, u: ema(old, u, small), hyper.previous, direction)
    weight = ema(hyper.previous_weight, 1.0, small)
    return hyper._replace(previous=previous, previous_weight=weight)
