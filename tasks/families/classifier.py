"""What every classifier of stored images shares: checks, draws, batches and the cross-entropy."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Split, Task
from tasks.families import dynamics
from tasks.families.images import check_images, pixels
from tasks.families.layers import INITIALIZERS, cross_entropy
from tasks.info import check_classes, info
from tasks.names import check_at_least, check_name

WHOLE = 256  # images that stand for a whole split


@runtime_checkable
class ImageFields(Protocol):
    """The fields that all classifiers of images have.

    dataset: of images with labels. image_size: to which they are shrunk by averaging, None for
    none. centre: pixels lie in -1 .. 1 instead of 0 .. 1. initializer: a key of INITIALIZERS.
    initial_scale, label_noise, subset: as in dynamics.draw.
    """

    @property
    def dataset(self) -> str: ...
    @property
    def image_size(self) -> int | None: ...
    @property
    def centre(self) -> bool: ...
    @property
    def initializer(self) -> str: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def initial_scale(self) -> dynamics.Bounds: ...
    @property
    def label_noise(self) -> dynamics.Bounds: ...
    @property
    def subset(self) -> dynamics.Bounds: ...


def check_image_fields(family: ImageFields) -> None:
    """Raises ValueError for the first of the shared fields that is not allowed."""
    check_images(family.dataset, family.image_size)
    check_classes(family.dataset)
    check_name("initializer", family.initializer, INITIALIZERS)
    check_at_least(1, batch_size=family.batch_size)
    dynamics.check_bounds(family.initial_scale, family.label_noise, family.subset)


def draw(family: ImageFields, key: PRNGKeyArray) -> dynamics.Variation:
    return dynamics.draw(key, family.initial_scale, family.label_noise, family.subset)


def classification(
    family: ImageFields,
    cfg: Cfg,
    data: Data,
    init: Callable[[PRNGKeyArray, Float[Array, ""]], Params],
    logits: Callable[[Params, PRNGKeyArray, Array], Array],
) -> Task:
    """The task of a network.

    init(key, scale) gives its start, weights `scale` times as large as the initializer's;
    logits(params, key, x) takes images (n, height, width, channels) and gives (n, classes).
    """
    classes = info(family.dataset).classes

    def batch(key: PRNGKeyArray, split: Split) -> Batch:
        return dynamics.minibatch(key, family.batch_size, data, split, cfg, classes)

    def whole(split: Split) -> Batch:
        return dynamics.whole(WHOLE, data, split, cfg, classes)

    def loss(params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
        x = pixels(batch["image"], family.dataset, family.image_size, family.centre)
        return cross_entropy(logits(params, key, x), batch["label"])

    return Task(lambda key: init(key, cfg.scale), batch, whole, loss, lower_bound=0.0)
