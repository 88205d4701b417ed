"""Stored images as numbers: a network sees them scaled, shrunk and perhaps centred."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from tasks.base import Data
from tasks.data import load
from tasks.info import check_dataset, info


def check_images(dataset: str, image_size: int | None) -> None:
    """Raises ValueError unless the dataset holds images at least `image_size` wide (None: any)."""
    check_dataset(dataset, "image")
    side = info(dataset).shape[0]
    if image_size is not None and not 1 <= image_size <= side:
        raise ValueError(
            f"image_size: {image_size} is not allowed; images of {dataset} are {side} wide, so it "
            f"must be 1 to {side}"
        )


def image_shape(dataset: str, image_size: int | None) -> tuple[int, int, int]:
    """(height, width, channels) of what `pixels` gives."""
    height, width, channels = info(dataset).shape
    return (height, width, channels) if image_size is None else (image_size, image_size, channels)


def load_images(dataset: str) -> Data:
    """The images of every split without their labels."""
    return {split: {"image": part["image"]} for split, part in load(dataset).items()}


def _shrinking(side: int, size: int) -> np.ndarray:
    """(size, side) weights that average the stored pixels each shrunk pixel covers."""
    low = np.arange(size)[:, None] * side / size
    covered = np.minimum(low + side / size, np.arange(1, side + 1)) - np.maximum(
        low, np.arange(side)
    )
    return (np.maximum(covered, 0) * size / side).astype(np.float32)


def pixels(
    image: UInt8[Array, "*shape"], dataset: str, image_size: int | None = None, centre: bool = False
) -> Float[Array, "n size size channels"]:
    """Stored bytes as 0 .. 1, or -1 .. 1 where centred; shrunk by averaging to `image_size`."""
    height, width, channels = info(dataset).shape
    values = image.reshape(-1, height, width, channels).astype(jnp.float32) / info(dataset).top
    if image_size not in (None, height):
        weights = jnp.asarray(_shrinking(height, image_size))
        values = jnp.einsum("rh,nhwc,sw->nrsc", weights, values, weights)
    return 2 * values - 1 if centre else values
