"""Gradient statistics that learned rules read."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_opt.base import Horizon
from learned_opt.columns import tame

LARGEST_CLIPPED = 1000.0
FRACTIONS = (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)
TIMES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)


def root(mean_square: Float[Array, "d t"]) -> Float[Array, "d t"]:
    """sqrt(mean + 1e-16); 1, with derivative 0, where the whole tensor is 0."""
    return jnp.sqrt(jnp.where(mean_square > 0.0, mean_square, 1.0) + 1e-16)


@jax.custom_jvp
def arcsinh(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """The inverse hyperbolic sine in half the time of XLA's; beyond +-1e18 it stays as it is there.

    log1p(a + a^2 / (1 + sqrt(1 + a^2))) for a = |x| loses no digits near 0.
    """
    size = jnp.minimum(jnp.abs(x), 1e18)
    square = jnp.square(size)
    return jnp.copysign(jnp.log1p(size + square / (1.0 + jnp.sqrt(1.0 + square))), x)


@arcsinh.defjvp
def _arcsinh_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    return arcsinh(x), tangent * jax.lax.rsqrt(1.0 + jnp.square(jnp.clip(x, -1e18, 1e18)))


def clip_gradient(gradient: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Non-finite entries become 0 and the others stay within +-1000, as in VeLO."""
    return jnp.clip(tame(gradient), -LARGEST_CLIPPED, LARGEST_CLIPPED)


def time_features(
    count: Int[Array, ""], times: tuple[float, ...] = TIMES
) -> Float[Array, " times"]:
    """tanh(t / tau - 1) for each tau of `times`; count: t, updates made before this one."""
    return jnp.tanh(count.astype(jnp.float32) / jnp.array(times) - 1.0)


def fraction_features(count: Int[Array, ""], horizon: Horizon) -> Float[Array, "9"]:
    """tanh(10 (t / horizon - c)) for c from 0.03 to 1.1; count: t, updates made before this one."""
    done = count / jnp.asarray(horizon, jnp.float32)
    return jnp.tanh(10.0 * (done - jnp.array(FRACTIONS)))


def offset_decays(first: tuple[float, ...], offset: Float[Array, " k"]) -> Float[Array, " k"]:
    """1 - (1 - first) exp(10 offset), within [0, 1]: an offset of 0.1 divides the memory by e."""
    return jnp.clip(1.0 - (1.0 - jnp.array(first)) * jnp.exp(10.0 * offset), 0.0, 1.0)


def accumulate(
    decay: Float[Array, " k"], average: Float[Array, "k *s"], x: Float[Array, "*s"]
) -> Float[Array, "k *s"]:
    """decay average + (1 - decay) x for each of the k decays."""
    decay = decay.reshape(-1, *(1,) * x.ndim)
    return decay * average + (1.0 - decay) * x


def normaliser(x: Float[Array, "k *s"]) -> Float[Array, " k"]:
    """1 / sqrt(1e-5 + mean of x^2) of each row, over all axes but the first."""
    return jax.lax.rsqrt(1e-5 + jnp.mean(jnp.square(x), axis=tuple(range(1, x.ndim))))


def factored_axes(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The largest axis and the second largest, or None below rank 2; of equal ones the last."""
    if len(shape) < 2:
        return None
    by_size = sorted(range(len(shape)), key=lambda axis: shape[axis])
    return by_size[-1], by_size[-2]


class FactoredMoment(NamedTuple):
    """Averages of g^2 for one tensor under k decays, as in Adafactor (1804.04235)."""

    row: Float[Array, "k *r"]  # of its mean over the largest axis, kept with size 1
    column: Float[Array, "k *c"] | None  # over the second largest; None: `row` is not reduced

    @staticmethod
    def zeros(decays: int, shape: tuple[int, ...]) -> "FactoredMoment":
        axes = factored_axes(shape)
        if axes is None:
            return FactoredMoment(jnp.zeros((decays, *shape)), None)
        reduced = [[1 if i == axis else n for i, n in enumerate(shape)] for axis in axes]
        row, column = (jnp.zeros((decays, *sizes)) for sizes in reduced)
        return FactoredMoment(row, column)

    def step(self, decay: Float[Array, " k"], gradient: Float[Array, "*s"]) -> "FactoredMoment":
        square = jnp.square(gradient) + 1e-30
        axes = factored_axes(gradient.shape)
        if axes is None or self.column is None:
            return FactoredMoment(accumulate(decay, self.row, square), None)
        row, column = (
            accumulate(decay, average, square.mean(axis=axis, keepdims=True))
            for average, axis in zip((self.row, self.column), axes, strict=True)
        )
        return FactoredMoment(row, column)

    def factors(self) -> tuple[Float[Array, "k *r"], Float[Array, "k *c"] | None]:
        """R and C: a gradient times both has entries of size near 1; where C is None, it is 1."""
        if self.column is None:
            return jax.lax.rsqrt(self.row + 1e-9), None
        shape = jnp.broadcast_shapes(self.row.shape, self.column.shape)
        axes = factored_axes(shape[1:])
        second = 0 if axes is None else axes[1]
        mean = self.row.mean(axis=second + 1, keepdims=True)
        row = jax.lax.rsqrt(jnp.maximum(self.row / (mean + 1e-9), 1e-9))
        return row, jax.lax.rsqrt(jnp.maximum(self.column, 1e-9))
