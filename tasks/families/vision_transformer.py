"""Vision transformers: the patches of an image as a sequence of tokens."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Cfg, Data, Params, Task
from tasks.data import load
from tasks.families.attention import transformer, transformer_init
from tasks.families.classifier import check_image_fields, classification, draw
from tasks.families.convolution import patches
from tasks.families.images import image_shape
from tasks.families.layers import ACTIVATIONS, affine, check_dropout, dense
from tasks.info import info
from tasks.names import check_at_least, check_divides, check_name

POSITION_STDEV = 0.02  # of the learned positions at the start (2010.11929)


@dataclass(frozen=True)
class VisionTransformer:
    """Patches as tokens with learned positions, pre-norm transformer blocks, mean (2010.11929).

    patch: side of a patch, must divide the image. layers: blocks. heads: of each attention, must
    divide hidden, the width of a token. mlp: units of the dense network of a block. dropout: the
    rate on what blocks add, whenever the loss is taken. dataset, image_size, centre, initializer
    and the bounds initial_scale, label_noise and subset are as in mlp_classifier.
    """

    loss: ClassVar[str] = "cross_entropy"
    dataset: str = "digits"
    patch: int = 2
    layers: int = 1
    heads: int = 2
    hidden: int = 16
    mlp: int = 32
    dropout: float = 0.0
    activation: str = "gelu"
    image_size: int | None = None
    centre: bool = False
    initializer: str = "by_inputs"
    batch_size: int = 32
    initial_scale: tuple[float, float] = (1.0, 1.0)
    label_noise: tuple[float, float] = (0.0, 0.0)
    subset: tuple[float, float] = (1.0, 1.0)
    name: str = "vision_transformer"

    def __post_init__(self):
        check_image_fields(self)
        check_name("activation", self.activation, ACTIVATIONS)
        check_at_least(
            1,
            patch=self.patch,
            layers=self.layers,
            heads=self.heads,
            hidden=self.hidden,
            mlp=self.mlp,
        )
        check_dropout(self.dropout)
        check_divides("heads", self.heads, self.hidden, f"hidden {self.hidden}")
        height, width, _ = image_shape(self.dataset, self.image_size)
        image = f"the image of {height}x{width}"
        check_divides("patch", self.patch, math.gcd(height, width), image)

    def load(self) -> Data:
        return load(self.dataset)

    def sample(self, key: PRNGKeyArray) -> Cfg:
        return draw(self, key)

    def task(self, cfg: Cfg, data: Data) -> Task:
        return classification(self, cfg, data, self._init, self._logits)

    def _init(self, key: PRNGKeyArray, scale: Float[Array, ""]) -> Params:
        patch_key, position_key, block_key, output_key = jax.random.split(key, 4)
        how = (scale, self.initializer)
        height, width, channels = image_shape(self.dataset, self.image_size)
        tokens = (height // self.patch) * (width // self.patch)
        return {
            "patch": dense(patch_key, self.patch**2 * channels, self.hidden, *how),
            "position": POSITION_STDEV * jax.random.normal(position_key, (tokens, self.hidden)),
            "blocks": transformer_init(block_key, self.layers, self.hidden, self.mlp, *how),
            "output": dense(output_key, self.hidden, info(self.dataset).classes, *how),
        }

    def _logits(
        self, params: Params, key: PRNGKeyArray, x: Float[Array, "n height width channels"]
    ) -> Float[Array, "n classes"]:
        tokens = patches(x, self.patch, self.patch, ((0, 0), (0, 0)))
        n, rows, columns, *inputs = tokens.shape
        tokens = tokens.reshape(n, rows * columns, math.prod(inputs))
        x = affine(params["patch"], tokens) + params["position"]
        x = transformer(
            params["blocks"], x, key, self.heads, activation=self.activation, rate=self.dropout
        )
        return affine(params["output"], jnp.mean(x, axis=1))
