"""What varies between tasks on one stored dataset: start, wrong labels, amount of data."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer, PRNGKeyArray, UInt32

from tasks import sampling
from tasks.base import Batch, Data, Split
from tasks.names import check_fractions, check_range

Bounds = tuple[float, float]


class Noise(NamedTuple):
    """share: of the labels that are replaced. seed: which, and by what."""

    share: Float[Array, ""]
    seed: UInt32[Array, ""]


class Window(NamedTuple):
    """share: of the train split that the task sees. place: 0 for its beginning .. 1 for its end."""

    share: Float[Array, ""]
    place: Float[Array, ""]


class Variation(NamedTuple):
    """scale: factor on the starting weights. noise, window: None where no task has any."""

    scale: Float[Array, ""]
    noise: Noise | None
    window: Window | None


def check_bounds(
    initial_scale: Bounds = (1.0, 1.0),
    label_noise: Bounds = (0.0, 0.0),
    subset: Bounds = (1.0, 1.0),
) -> None:
    """Raises ValueError unless these are bounds that `draw` takes, all for fields of a family."""
    check_range("initial_scale", initial_scale)
    check_range("subset", subset)
    if subset[1] > 1:
        raise ValueError(f"subset: {subset} is not allowed; it must be 0 < low <= high <= 1")
    check_fractions("label_noise", label_noise)


def draw(
    key: PRNGKeyArray,
    initial_scale: Bounds = (1.0, 1.0),
    label_noise: Bounds = (0.0, 0.0),
    subset: Bounds = (1.0, 1.0),
) -> Variation:
    """One task's variation: the scale log-uniform, the two shares uniform within their bounds.

    Bounds (0, 0) of label_noise and (1, 1) of subset leave their part out of the program.
    """
    noise_key, seed_key, share_key, place_key = jax.random.split(jax.random.fold_in(key, 1), 4)
    noise = window = None
    if label_noise[1] > 0:
        noise = Noise(sampling.uniform(noise_key, label_noise), jax.random.bits(seed_key))
    if subset[0] < 1:
        window = Window(sampling.uniform(share_key, subset), jax.random.uniform(place_key))
    return Variation(sampling.log_uniform(key, initial_scale), noise, window)


def _span(window: Window, count: int) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """The first example and the number of examples of a window on `count` of them."""
    size = jnp.clip(jnp.round(window.share * count), 1, count)
    start = jnp.clip(jnp.floor(window.place * (count - size + 1)), 0, count - size)
    return start.astype(jnp.int32), size.astype(jnp.int32)


def _noisy_labels(
    label: Integer[Array, " n"],
    index: Int[Array, " n"],
    noise: Noise,
    classes: int,
) -> Integer[Array, " n"]:
    """The labels, each replaced with the noise's share as probability by a uniform one.

    index: where in the split the examples are. An example has the same label at every step; the
    uniform label may be the right one.
    """
    key = jax.random.key(noise.seed)
    bits = jax.vmap(lambda i: jax.random.bits(jax.random.fold_in(key, i), (2,)))(index)
    replaced = (bits[:, 0] >> 8).astype(jnp.float32) < noise.share * 2**24
    return jnp.where(replaced, bits[:, 1] % jnp.uint32(classes), label).astype(label.dtype)


def _gather(index: Int[Array, " n"], part: Batch, variation: Variation, classes: int) -> Batch:
    batch = jax.tree.map(lambda values: values[index], part)
    if variation.noise is not None:
        label = _noisy_labels(batch["label"], index, variation.noise, classes)
        batch = {**batch, "label": label}
    return batch


def minibatch(
    key: PRNGKeyArray, size: int, data: Data, split: Split, variation: Variation, classes: int = 0
) -> Batch:
    """`size` examples of the split drawn with replacement; only the train split is varied.

    classes: how many labels there are, read only where there is label noise.
    """
    part = data[split]
    if split != "train" or (variation.noise is None and variation.window is None):
        return sampling.minibatch(key, size, part)
    count = len(jax.tree.leaves(part)[0])
    if variation.window is None:
        index = sampling.indices(key, size, count)
    else:
        start, width = _span(variation.window, count)
        draws = jax.random.bits(key, (size,)) % width.astype(jnp.uint32)
        index = start + draws.astype(jnp.int32)
    return _gather(index, part, variation, classes)


def whole(limit: int, data: Data, split: Split, variation: Variation, classes: int = 0) -> Batch:
    """The first `limit` examples that `minibatch` draws from, repeated where a window has fewer."""
    part = data[split]
    if split != "train" or (variation.noise is None and variation.window is None):
        return sampling.first(limit, part)
    count = len(jax.tree.leaves(part)[0])
    index = jnp.arange(min(limit, count))
    if variation.window is not None:
        start, width = _span(variation.window, count)
        index = start + index % width
    return _gather(index, part, variation, classes)
