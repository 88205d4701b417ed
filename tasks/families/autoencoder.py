"""Dense autoencoders of images."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Split, Task
from tasks.families import dynamics
from tasks.families.images import check_images, image_shape, load_images, pixels
from tasks.families.layers import ACTIVATIONS, INITIALIZERS, mlp_apply, mlp_init
from tasks.names import check_at_least, check_name

WHOLE = 512  # images that stand for a whole split

OUTPUTS = {"linear": lambda x: x, "sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh}
ERRORS = {"mae": jnp.abs, "mse": jnp.square}
REDUCTIONS = {"mean": jnp.mean, "sum": jnp.sum}


@dataclass(frozen=True)
class MLPAutoencoder:
    """Images rebuilt through hidden layers of the given widths (2002.11887).

    image_size: to which images are shrunk by averaging, null for none. centre: pixels lie in
    -1 .. 1 instead of 0 .. 1. output: linear, sigmoid or tanh, of the last layer. loss: mse or mae.
    reduction: mean or sum, over the pixels of an image; the loss is the mean over images.
    initializer: a key of INITIALIZERS. initial_scale, subset: bounds as in MLPClassifier.
    """

    dataset: str = "digits"
    widths: tuple[int, ...] = (16,)
    activation: str = "relu"
    image_size: int | None = None
    centre: bool = False
    output: str = "sigmoid"
    loss: str = "mse"
    reduction: str = "mean"
    initializer: str = "by_inputs"
    batch_size: int = 32
    initial_scale: tuple[float, float] = (1.0, 1.0)
    subset: tuple[float, float] = (1.0, 1.0)
    name: str = "mlp_autoencoder"

    def __post_init__(self):
        check_images(self.dataset, self.image_size)
        check_name("activation", self.activation, ACTIVATIONS)
        check_name("output", self.output, OUTPUTS)
        check_name("loss", self.loss, ERRORS)
        check_name("reduction", self.reduction, REDUCTIONS)
        check_name("initializer", self.initializer, INITIALIZERS)
        check_at_least(1, batch_size=self.batch_size, widths=min(self.widths, default=1))
        dynamics.check_bounds(self.initial_scale, subset=self.subset)

    @property
    def sizes(self) -> tuple[int, ...]:
        dim = math.prod(image_shape(self.dataset, self.image_size))
        return (dim, *self.widths, dim)

    def load(self) -> Data:
        return load_images(self.dataset)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return dynamics.draw(key, self.initial_scale, subset=self.subset)

    def task(self, cfg: Cfg, data: Data) -> Task:
        def init(key: PRNGKeyArray) -> Params:
            return mlp_init(key, self.sizes, cfg.scale, self.initializer)

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            return dynamics.minibatch(key, self.batch_size, data, split, cfg)

        def whole(split: Split) -> Batch:
            return dynamics.whole(WHOLE, data, split, cfg)

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            del key
            image = pixels(batch["image"], self.dataset, self.image_size, self.centre)
            x = image.reshape(-1, self.sizes[0])
            rebuilt = OUTPUTS[self.output](mlp_apply(params, x, self.activation))
            return jnp.mean(REDUCTIONS[self.reduction](ERRORS[self.loss](rebuilt - x), axis=-1))

        return Task(init, batch, whole, loss, lower_bound=0.0)
