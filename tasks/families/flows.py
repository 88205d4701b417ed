"""Normalising flows on images: autoregressive (MAF) and by coupling (RealNVP)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Split, Task
from tasks.families import dynamics
from tasks.families.images import check_images, image_shape, load_images, pixels
from tasks.families.layers import ACTIVATIONS, INITIALIZERS, affine, mlp_apply, mlp_init
from tasks.names import check_at_least, check_name

WHOLE = 256  # images that stand for a whole split

NOISE = 0.01  # standard deviation of what makes the stored levels continuous
# No density has an expected loss below the entropy of the noise. A batch may fall below it by luck;
# one nat per pixel is out of luck's reach but for a batch of a few pixels, where the clamp holds.
LOWER_BOUND = 0.5 * math.log(2 * math.pi * math.e * NOISE**2) - 1

_MOST = 5.0  # largest size of a log scale

Transform = Callable[
    [Params, Float[Array, "n dim"], str], tuple[Float[Array, "n dim"], Float[Array, " n"]]
]


def _standardise(
    x: Float[Array, "n dim"], outputs: Float[Array, "n two_dims"]
) -> tuple[Float[Array, "n dim"], Float[Array, " n"]]:
    """(x - shift) / scale and the log-determinant; log scales are squashed to within 5."""
    shift, raw = jnp.split(outputs, 2, axis=-1)
    log_scale = _MOST * jnp.tanh(raw / _MOST)
    return (x - shift) * jnp.exp(-log_scale), -jnp.sum(log_scale, -1)


def masks(dim: int, widths: tuple[int, ...]) -> list[Bool[Array, "inputs outputs"]]:
    """Which weights a network keeps so that outputs i (shift and scale) depend on x_1 .. x_(i-1).

    A unit of degree d sees inputs of degree <= d; degrees of hidden units go round 1 .. dim - 1.
    """
    degrees = [jnp.arange(1, dim + 1)]
    degrees += [jnp.arange(width) % max(dim - 1, 1) + 1 for width in widths]
    hidden = [
        after[None, :] >= before[:, None]
        for before, after in zip(degrees[:-1], degrees[1:], strict=True)
    ]
    last = jnp.tile(degrees[0], 2)[None, :] > degrees[-1][:, None]
    return [*hidden, last]


def autoregress(
    params: Params, x: Float[Array, "n dim"], activation: str
) -> tuple[Float[Array, "n dim"], Float[Array, " n"]]:
    """Each coordinate shifted and scaled by what those before it say; log |det Jacobian|."""
    widths = tuple(len(params[f"layer{i}"]["bias"]) for i in range(len(params) - 1))
    h = x
    for i, mask in enumerate(masks(x.shape[-1], widths)):
        if i:
            h = ACTIVATIONS[activation](h)
        layer = params[f"layer{i}"]
        h = affine({**layer, "weight": jnp.where(mask, layer["weight"], 0)}, h)
    return _standardise(x, h)


def couple(
    params: Params, x: Float[Array, "n dim"], activation: str
) -> tuple[Float[Array, "n dim"], Float[Array, " n"]]:
    """The second half of x shifted and scaled by what the first says; log |det Jacobian|."""
    first, second = jnp.split(x, [x.shape[-1] // 2], axis=-1)
    moved, log_det = _standardise(second, mlp_apply(params, first, activation))
    return jnp.concatenate([first, moved], axis=-1), log_det


def log_density(
    params: Params, x: Float[Array, "n dim"], transform: Transform, activation: str
) -> Float[Array, " n"]:
    """Log-density of x when the flow makes it standard normal; coordinates turn round in between.

    params: {"bijector0": ..., "bijector1": ...}, the first acts on x.
    """
    total = jnp.zeros(len(x), x.dtype)
    for i in range(len(params)):
        x, log_det = transform(params[f"bijector{i}"], x, activation)
        x, total = x[:, ::-1], total + log_det
    return total - 0.5 * jnp.sum(x**2, -1) - 0.5 * x.shape[-1] * math.log(2 * math.pi)


def _flow(
    family: "MAF | NVP", cfg: Cfg, data: Data, sizes: tuple[int, ...], transform: Transform
) -> Task:
    """The task of a flow whose bijectors are networks of the given sizes."""

    def init(key: PRNGKeyArray) -> Params:
        keys = jax.random.split(key, family.bijectors)
        return {
            f"bijector{i}": mlp_init(keys[i], sizes, cfg.scale, family.initializer)
            for i in range(family.bijectors)
        }

    def batch(key: PRNGKeyArray, split: Split) -> Batch:
        return dynamics.minibatch(key, family.batch_size, data, split, cfg)

    def whole(split: Split) -> Batch:
        return dynamics.whole(WHOLE, data, split, cfg)

    def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
        x = pixels(batch["image"], family.dataset, family.image_size).reshape(-1, family.dim)
        x = x + NOISE * jax.random.normal(key, x.shape, x.dtype)
        density = log_density(params, x, transform, family.activation)
        return jnp.maximum(-jnp.mean(density) / family.dim, LOWER_BOUND)

    return Task(init, batch, whole, loss, lower_bound=LOWER_BOUND)


def _check(family: "MAF | NVP") -> None:
    """Raises ValueError for the first field that is not allowed."""
    check_images(family.dataset, family.image_size)
    if family.dim < 2:
        raise ValueError(
            f"image_size: {family.image_size} is not allowed; a flow on {family.dataset} needs two "
            "pixels or more"
        )
    check_name("activation", family.activation, ACTIVATIONS)
    check_name("initializer", family.initializer, INITIALIZERS)
    check_at_least(
        1,
        bijectors=family.bijectors,
        widths=min(family.widths, default=1),
        batch_size=family.batch_size,
    )
    dynamics.check_bounds(family.initial_scale, subset=family.subset)


@dataclass(frozen=True)
class MAF:
    """Density of images by masked autoregressive networks of the given widths (1705.07057).

    Images are 0 .. 1 with normal noise of 0.01 on every pixel; the loss is the mean negative
    log-density in nats per pixel, clamped at its bound of -4.19: the entropy of that noise, less 1.
    bijectors: one after the other, the order of pixels reversed in between. image_size: to which
    images are shrunk by averaging, null for none. initializer: a key of INITIALIZERS.
    initial_scale, subset: bounds as in MLPClassifier.
    """

    loss: ClassVar[str] = "nll"
    dataset: str = "digits"
    bijectors: int = 2
    widths: tuple[int, ...] = (16,)
    activation: str = "relu"
    image_size: int | None = None
    initializer: str = "by_inputs"
    batch_size: int = 32
    initial_scale: tuple[float, float] = (1.0, 1.0)
    subset: tuple[float, float] = (1.0, 1.0)
    name: str = "maf"

    def __post_init__(self):
        _check(self)

    @property
    def dim(self) -> int:
        return math.prod(image_shape(self.dataset, self.image_size))

    def load(self) -> Data:
        return load_images(self.dataset)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return dynamics.draw(key, self.initial_scale, subset=self.subset)

    def task(self, cfg: Cfg, data: Data) -> Task:
        sizes = (self.dim, *self.widths, 2 * self.dim)
        return _flow(self, cfg, data, sizes, autoregress)


@dataclass(frozen=True)
class NVP:
    """Density of images by affine coupling of their halves (RealNVP, 1605.08803).

    Fields, loss and bound are those of MAF. A network of the given widths reads the first half of
    the pixels, shifts and scales the second; the order of pixels is reversed after each.
    """

    loss: ClassVar[str] = "nll"
    dataset: str = "digits"
    bijectors: int = 2
    widths: tuple[int, ...] = (16,)
    activation: str = "relu"
    image_size: int | None = None
    initializer: str = "by_inputs"
    batch_size: int = 32
    initial_scale: tuple[float, float] = (1.0, 1.0)
    subset: tuple[float, float] = (1.0, 1.0)
    name: str = "nvp"

    def __post_init__(self):
        _check(self)

    @property
    def dim(self) -> int:
        return math.prod(image_shape(self.dataset, self.image_size))

    def load(self) -> Data:
        return load_images(self.dataset)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return dynamics.draw(key, self.initial_scale, subset=self.subset)

    def task(self, cfg: Cfg, data: Data) -> Task:
        half = self.dim // 2
        sizes = (half, *self.widths, 2 * (self.dim - half))
        return _flow(self, cfg, data, sizes, couple)
