"""Dense variational autoencoders of images, whose decoder gives a probability to every byte."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Split, Task
from tasks.families import dynamics
from tasks.families.images import check_images, image_shape, load_images, pixels
from tasks.families.layers import ACTIVATIONS, INITIALIZERS, mlp_apply, mlp_init
from tasks.info import info
from tasks.names import check_at_least, check_name

WHOLE = 512  # images that stand for a whole split

_LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)
_TAIL = -10.0  # below it the normal distribution is an asymptotic series, accurate to 1e-7
_NARROW = 0.02  # standard deviations; of a narrower interval the ends' difference loses digits


def log_normal_cdf(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """log P(N(0, 1) < x); its slope, unlike jax's, is finite for |x| in the hundred thousands."""
    far = jnp.minimum(x, _TAIL)
    inverse = far**-2
    series = inverse * (-1 + inverse * (3 + inverse * (-15 + 105 * inverse)))
    tail = -0.5 * far**2 - jnp.log(-far) - _LOG_ROOT_2PI + jnp.log1p(series)
    return jnp.where(x < _TAIL, tail, jnp.log(jax.scipy.special.ndtr(jnp.maximum(x, _TAIL))))


def _log_narrow(middle: Float[Array, "*n"], width: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """log P(|N(0, 1) - middle| < width / 2) for small widths; relative error below width^2 / 12.

    Across the interval the density is nearly exponential: it integrates to a hyperbolic sine.
    """
    slope = 0.5 * jnp.abs(middle) * width
    flat = slope < 0.01
    steep = jnp.where(flat, 1.0, slope)
    log_sinhc = jnp.where(
        flat, slope**2 / 6, steep + jnp.log1p(-jnp.exp(-2 * steep)) - jnp.log(2 * steep)
    )
    return -0.5 * middle**2 - _LOG_ROOT_2PI + jnp.log(width) + log_sinhc - width**2 / 24


def log_interval(middle: Float[Array, "*n"], width: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """log P(|N(0, 1) - middle| < width / 2), never above 0."""
    middle = -jnp.abs(middle)  # the lower tail is where differences keep their digits
    narrow = width < _NARROW
    wide = jnp.where(narrow, 1.0, width)
    above = log_normal_cdf(middle + wide / 2)
    below = log_normal_cdf(middle - wide / 2)
    difference = above + jnp.log1p(-jnp.exp(below - above))
    return jnp.where(narrow, _log_narrow(middle, jnp.where(narrow, width, 0.01)), difference)


def quantised_normal(
    level: Float[Array, "*n"], top: int, mean: Float[Array, "*n"], log_stdev: Float[Array, "*n"]
) -> Float[Array, "*n"]:
    """Log-probability of levels 0 .. top when `top` times a normal number is rounded to a level.

    mean, log_stdev: of the number, which is 0 at level 0 and 1 at `top`. What falls beyond the
    first and the last level counts as these, so the probabilities of all levels sum to 1.
    """
    inverse = jnp.exp(-log_stdev)
    position, width = (level / top - mean) * inverse, inverse / top
    lowest = log_normal_cdf(position + width / 2)
    highest = log_normal_cdf(width / 2 - position)
    inner = log_interval(position, width)
    return jnp.where(level <= 0, lowest, jnp.where(level >= top, highest, inner))


def divergence(mean: Float[Array, "*n"], log_stdev: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """KL(N(mean, stdev^2), N(0, 1)), never below 0."""
    excess = jnp.expm1(2 * log_stdev) - 2 * log_stdev
    return 0.5 * (mean**2 + jnp.maximum(excess, 0))


def _normal(outputs: Float[Array, "n two_dims"]) -> tuple[Array, Array]:
    """A network's outputs as means and log standard deviations, each within -10 .. 10."""
    mean, log_stdev = jnp.split(jnp.clip(outputs, -10, 10), 2, axis=-1)
    return mean, log_stdev


@dataclass(frozen=True)
class MLPVAE:
    """Images as bytes with a probability: dense encoder and decoder, normal latents (2002.11887).

    encoder, decoder: widths of hidden layers. latent: dimensions. The decoder gives each pixel a
    normal distribution, quantised to the levels that pixels have. The loss is the negative
    evidence lower bound in nats per pixel, with one draw of the latents and the divergence in
    closed form: never below 0. image_size: to which images are shrunk by averaging, null for none;
    what comes out is rounded to levels. centre: the encoder sees -1 .. 1 instead of 0 .. 1.
    initializer: a key of INITIALIZERS. initial_scale, subset: bounds as in MLPClassifier.
    """

    loss: ClassVar[str] = "elbo"
    dataset: str = "digits"
    encoder: tuple[int, ...] = (16,)
    decoder: tuple[int, ...] = (16,)
    latent: int = 4
    activation: str = "relu"
    image_size: int | None = None
    centre: bool = False
    initializer: str = "by_inputs"
    batch_size: int = 32
    initial_scale: tuple[float, float] = (1.0, 1.0)
    subset: tuple[float, float] = (1.0, 1.0)
    name: str = "mlp_vae"

    def __post_init__(self):
        check_images(self.dataset, self.image_size)
        check_name("activation", self.activation, ACTIVATIONS)
        check_name("initializer", self.initializer, INITIALIZERS)
        check_at_least(
            1,
            encoder=min(self.encoder, default=1),
            decoder=min(self.decoder, default=1),
            latent=self.latent,
            batch_size=self.batch_size,
        )
        dynamics.check_bounds(self.initial_scale, subset=self.subset)

    @property
    def dim(self) -> int:
        return math.prod(image_shape(self.dataset, self.image_size))

    def load(self) -> Data:
        return load_images(self.dataset)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return dynamics.draw(key, self.initial_scale, subset=self.subset)

    def task(self, cfg: Cfg, data: Data) -> Task:
        top = info(self.dataset).top

        def init(key: PRNGKeyArray) -> Params:
            encoder_key, decoder_key = jax.random.split(key)
            down = (self.dim, *self.encoder, 2 * self.latent)
            up = (self.latent, *self.decoder, 2 * self.dim)
            return {
                "encoder": mlp_init(encoder_key, down, cfg.scale, self.initializer),
                "decoder": mlp_init(decoder_key, up, cfg.scale, self.initializer),
            }

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            return dynamics.minibatch(key, self.batch_size, data, split, cfg)

        def whole(split: Split) -> Batch:
            return dynamics.whole(WHOLE, data, split, cfg)

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            x = pixels(batch["image"], self.dataset, self.image_size).reshape(-1, self.dim)
            seen = 2 * x - 1 if self.centre else x
            mean, log_stdev = _normal(mlp_apply(params["encoder"], seen, self.activation))
            latent = mean + jnp.exp(log_stdev) * jax.random.normal(key, mean.shape)
            outputs = _normal(mlp_apply(params["decoder"], latent, self.activation))
            likelihood = quantised_normal(jnp.round(x * top), top, *outputs)
            extra = divergence(mean, log_stdev)
            return (jnp.sum(extra) - jnp.sum(likelihood)) / x.size

        return Task(init, batch, whole, loss, lower_bound=0.0)
