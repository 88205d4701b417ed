"""Thirteen numbers without units on one step of the inner optimizer (2106.00958)."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtr
from jaxtyping import Array, Float, Int

from learned_opt.base import Params
from learned_opt.controller.leaves import Leaves, trained
from learned_opt.hand.ciao import Quantities
from learned_opt.hand.hyperparameters import Scalar

NAMES = (
    "clipped",
    "adaptive",  # share of entries whose denominator is above eps
    "log_update",
    "log_momentum_over_gradient",
    "log_step_over_param",
    "log_noise",
    "cosine_gradient_momentum",
    "cosine_gradient_param",
    "log_trust",
    "cosine_gradient_update",
    "logit_gradient_momentum",
    "logit_gradient_update",
    "share_gradient_param",
)
LARGEST_LOGIT = 18.42  # of a share of 1e-8
LARGEST_LOG = 20.0
SMALLEST_SIZE = 1e-30  # of gradients and of products of two norms
SMALLEST_NOISE = 1e-6  # of the momentum


class Sums(NamedTuple):
    """Over the steps since the last pause on which statistics were taken."""

    total: Float[Array, "*batch 13"]
    steps: Int[Array, "*batch"]

    @staticmethod
    def start() -> "Sums":
        return Sums(jnp.zeros(len(NAMES)), jnp.zeros((), jnp.int32))

    def adding(self, statistics: Float[Array, " 13"]) -> "Sums":
        return Sums(self.total + statistics, self.steps + 1)

    def mean(self) -> Float[Array, " 13"]:
        """NaN where no step was measured."""
        return self.total / self.steps


def statistics(
    quantities: Quantities, before: Params, after: Params, eps: Scalar
) -> Float[Array, " 13"]:
    """The NAMES, as means over tensors of equal weight; NaN for a tree without any.

    before, after: the parameters around the step; norms are of the first and cosines with the
    second. Cosines are compared with those of a random direction, whose product with the root of
    the tensor's size is standard normal. Two things differ from the publication, whose constant of
    1e-8 is in the gradient's own unit: ratios and cosines of gradients are exact down to 1e-30, and
    noise below a millionth of the momentum, all of it rounding, counts as so much.
    """
    pick = lambda tree: trained(tree, before)
    gradients, momenta = pick(quantities.gradients), pick(quantities.momentum)
    updates, start, end = pick(quantities.direction), pick(before), pick(after)
    gradient, momentum, update = _norms(gradients), _norms(momenta), _norms(updates)
    param, moved = _norms(start), _norms(end)
    noise = _norms([m - g for m, g in zip(momenta, gradients, strict=True)])
    rate = _stack(pick(quantities.rate))
    root = _stack([jnp.float32(g.size**0.5) for g in gradients])
    with_momentum = _cosine(gradients, momenta, gradient * momentum)
    with_param = _cosine(gradients, end, gradient * moved)
    with_update = _cosine(gradients, updates, gradient * update)
    of_tensors = (
        jnp.broadcast_to(quantities.clipped, gradient.shape).astype(jnp.float32),
        _stack([jnp.mean((s > eps).astype(jnp.float32)) for s in pick(quantities.scale)]),
        _stack([jnp.mean(_log(jnp.abs(u))) for u in updates]),
        _log_ratio(momentum, gradient),
        _log(rate * update) - _log(param),
        _log_ratio(momentum, jnp.maximum(noise, SMALLEST_NOISE * momentum)),
        with_momentum,
        with_param,
        _log(param) - _log(update),
        with_update,
        _logit_share(root * with_momentum),
        _logit_share(root * with_update),
        ndtr(root * with_param),
    )
    return jnp.mean(jnp.stack(of_tensors), axis=1)


def norm(leaves: Leaves) -> Float[Array, ""]:
    """The norm of all leaves together; 0 of none."""
    return jnp.sqrt(sum((jnp.sum(jnp.square(x)) for x in leaves), jnp.float32(0.0)))


def _norms(leaves: Leaves) -> Float[Array, " t"]:
    return _stack([jnp.sqrt(jnp.sum(jnp.square(x))) for x in leaves])


def _cosine(a: Leaves, b: Leaves, sizes: Array) -> Float[Array, " t"]:
    dots = _stack([jnp.sum(x * y) for x, y in zip(a, b, strict=True)])
    return dots / jnp.maximum(sizes, SMALLEST_SIZE)


def _stack(numbers: Leaves) -> Float[Array, " t"]:
    return jnp.stack(numbers) if numbers else jnp.zeros(0)


def _log(x: Array) -> Array:
    return jnp.log(x + 1e-8)


def _log_ratio(a: Array, b: Array) -> Array:
    """log(a / b), 0 where both are 0."""
    log = lambda x: jnp.log(jnp.maximum(x, SMALLEST_SIZE))
    return jnp.clip(log(a) - log(b), -LARGEST_LOG, LARGEST_LOG)


def _logit_share(z: Float[Array, " t"]) -> Float[Array, " t"]:
    """logit(F(z)) for the normal distribution F, without the rounding of 1 - F."""
    return jnp.clip(log_ndtr(z) - log_ndtr(-z), -LARGEST_LOGIT, LARGEST_LOGIT)
