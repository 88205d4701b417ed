"""MLP-Mixer: dense layers across the patches of an image, then across the channels of each."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from tasks.base import Batch, Cfg, Data, Params, Split, Task
from tasks.data import load
from tasks.families.convolution import patches
from tasks.families.images import check_images, image_shape, pixels
from tasks.families.layers import ACTIVATIONS, LOSSES, affine, dense, normalise
from tasks.info import info
from tasks.names import check_at_least, check_name
from tasks.sampling import first, minibatch

WHOLE = 256  # images that stand for a whole split


def cut(image: Float[Array, "n height width channels"], patch: int) -> Float[Array, "n tokens p"]:
    """Square patches of an image, row by row, each as one vector."""
    blocks = patches(image, patch, patch, ((0, 0), (0, 0)))
    n, rows, columns, *pixel = blocks.shape
    return blocks.reshape(n, rows * columns, math.prod(pixel))


@dataclass(frozen=True)
class MLPMixer:
    """Images as tokens, one for each patch, mixed over tokens and over channels (2105.01601).

    dataset: of images with classes. image_size: in pixels, None for the stored size. patch: side of
    a patch, which must divide the image. width: channels of a token. token_width, channel_width:
    hidden units of the two dense networks of each of the `depth` blocks, which keep what comes in.
    loss: a key of LOSSES.
    """

    dataset: str = "digits"
    image_size: int | None = None
    patch: int = 4
    width: int = 12
    token_width: int = 8
    channel_width: int = 16
    depth: int = 1
    activation: str = "mish"
    loss: str = "cross_entropy"
    batch_size: int = 32
    name: str = "mlp_mixer"

    def __post_init__(self):
        check_images(self.dataset, self.image_size)
        check_name("activation", self.activation, ACTIVATIONS)
        check_name("loss", self.loss, LOSSES)
        check_at_least(
            1,
            patch=self.patch,
            width=self.width,
            token_width=self.token_width,
            channel_width=self.channel_width,
            depth=self.depth,
            batch_size=self.batch_size,
        )
        height, width, _ = image_shape(self.dataset, self.image_size)
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"patch: {self.patch} is not allowed; it must divide images of {height}x{width}"
            )

    def load(self) -> Data:
        return load(self.dataset)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        del key
        return ()

    def task(self, cfg: Cfg, data: Data) -> Task:
        del cfg

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            return minibatch(key, self.batch_size, data[split])

        def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
            del key
            return LOSSES[self.loss](self.logits(params, batch["image"]), batch["label"])

        return Task(
            self._init, batch, lambda split: first(WHOLE, data[split]), loss, lower_bound=0.0
        )

    def _init(self, key: PRNGKeyArray) -> Params:
        height, width, channels = image_shape(self.dataset, self.image_size)
        tokens = (height // self.patch) * (width // self.patch)
        inputs = self.patch**2 * channels
        keys = jax.random.split(key, 4 * self.depth + 2)
        params = {
            "inward": dense(keys[0], inputs, self.width),
            "outward": dense(keys[1], self.width, info(self.dataset).classes),
        }
        for i in range(self.depth):
            up, down, wide, narrow = keys[4 * i + 2 : 4 * i + 6]
            params[f"block{i}"] = {
                "token_gain": jnp.ones(self.width),
                "token_up": dense(up, tokens, self.token_width),
                "token_down": dense(down, self.token_width, tokens),
                "channel_gain": jnp.ones(self.width),
                "channel_up": dense(wide, self.width, self.channel_width),
                "channel_down": dense(narrow, self.channel_width, self.width),
            }
        return params

    def logits(self, params: Params, image: UInt8[Array, "n *shape"]) -> Float[Array, "n classes"]:
        act = ACTIVATIONS[self.activation]
        values = pixels(image, self.dataset, self.image_size, centre=True)
        x = affine(params["inward"], cut(values, self.patch))
        for i in range(self.depth):
            block = params[f"block{i}"]
            turned = (normalise(x) * block["token_gain"]).swapaxes(1, 2)
            mixed = affine(block["token_down"], act(affine(block["token_up"], turned)))
            x = x + mixed.swapaxes(1, 2)
            inner = act(affine(block["channel_up"], normalise(x) * block["channel_gain"]))
            x = x + affine(block["channel_down"], inner)
        return affine(params["outward"], jnp.mean(normalise(x), axis=1))
