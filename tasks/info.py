"""What is known of every dataset without reading it, so that a config is checked before data is."""

from typing import Literal, NamedTuple

from tasks.names import check_name

TEXT_FILE = "text:"  # a dataset name that begins so goes on with the path of a local file
BLOCK = 1024  # bytes of text in one example


class Info(NamedTuple):
    """shape: of one example, images as (height, width, channels). classes: 0 without labels.

    top: the largest value of a pixel.
    """

    kind: Literal["image", "table", "text"]
    shape: tuple[int, ...]
    classes: int = 0
    top: int = 255


INFO: dict[str, Info] = {
    "breast_cancer": Info("table", (30,), classes=2),
    "cifar10": Info("image", (32, 32, 3), classes=10),
    "corpus": Info("text", (BLOCK,)),
    "diabetes": Info("table", (10,)),
    "digits": Info("image", (8, 8, 1), classes=10, top=16),
    "documentation": Info("text", (BLOCK,)),
    "fashion_mnist": Info("image", (28, 28, 1), classes=10),
    "lm1b": Info("text", (BLOCK,)),
    "mnist": Info("image", (28, 28, 1), classes=10),
    "patches": Info("image", (16, 16, 3), classes=10),
    "reviews": Info("text", (64,), classes=2),
    "shapes": Info("image", (12, 12, 1), classes=8),
    "wine": Info("table", (13,), classes=3),
}


def info(dataset: str) -> Info:
    """Raises ValueError, with the nearest name, for a dataset that does not exist."""
    if dataset.startswith(TEXT_FILE):
        return Info("text", (BLOCK,))
    check_name("dataset", dataset, INFO)
    return INFO[dataset]


def check_dataset(dataset: str, kind: Literal["image", "table", "text"]) -> None:
    """Raises ValueError unless the dataset exists and is of this kind."""
    if info(dataset).kind != kind:
        allowed = (name for name, about in INFO.items() if about.kind == kind)
        check_name("dataset", dataset, allowed)


def check_classes(dataset: str) -> None:
    """Raises ValueError unless examples of the dataset have labels of two classes or more."""
    classes = info(dataset).classes
    if classes < 2:
        raise ValueError(
            f"dataset: {dataset} is not allowed; a classifier needs two classes or more and it has "
            f"{classes}"
        )
