"""The datasets whose raw data comes with scikit-learn."""

from typing import Any

import numpy as np

from tasks.base import MissingData
from tasks.builders import Arrays, Source

PATCH = 16  # pixels a side
BANDS = 5  # of the height of a photograph; each is a class


def _datasets() -> Any:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise MissingData(
            "scikit-learn, which brings the raw data, is not installed; "
            "get it with: pip install 'learned-opt[data]'"
        ) from error
    return datasets


def _digits() -> Arrays:
    rows, label = _datasets().load_digits(return_X_y=True)
    return {"image": rows.reshape(-1, 8, 8).astype(np.uint8), "label": label.astype(np.int64)}


def _wine() -> Arrays:
    rows, label = _datasets().load_wine(return_X_y=True)
    return {"features": rows.astype(np.float32), "label": label.astype(np.int64)}


def _breast_cancer() -> Arrays:
    rows, label = _datasets().load_breast_cancer(return_X_y=True)
    return {"features": rows.astype(np.float32), "label": label.astype(np.int64)}


def _diabetes() -> Arrays:
    rows, target = _datasets().load_diabetes(return_X_y=True, scaled=False)
    return {"features": rows.astype(np.float32), "target": target.astype(np.float32)}


def _patches() -> Arrays:
    """Two photographs cut on a grid; what does not fill a cell at the far edges is left out."""
    try:
        photographs = _datasets().load_sample_images().images
    except ImportError as error:
        raise MissingData(
            "Pillow, which opens the photographs, is not installed; "
            "get it with: pip install 'learned-opt[data]'"
        ) from error
    images, labels = [], []
    for i, photograph in enumerate(photographs):
        rows, columns = (length // PATCH for length in photograph.shape[:2])
        grid = photograph[: rows * PATCH, : columns * PATCH]
        grid = grid.reshape(rows, PATCH, columns, PATCH, 3).swapaxes(1, 2)
        images.append(grid.reshape(-1, PATCH, PATCH, 3))
        labels.append(np.repeat(i * BANDS + np.arange(rows) * BANDS // rows, columns))
    return {"image": np.concatenate(images), "label": np.concatenate(labels)}


SOURCES = (
    Source(
        "breast_cancer",
        "1.0.0",
        "30 measurements of 569 tumours, malignant (0) or benign (1), from scikit-learn.",
        (("features", ((30,), "float32")),),
        _breast_cancer,
        classes=2,
    ),
    Source(
        "diabetes",
        "1.0.0",
        "10 measurements of 442 patients and how far their diabetes went, from scikit-learn.",
        (("features", ((10,), "float32")), ("target", ((), "float32"))),
        _diabetes,
    ),
    Source(
        "digits",
        "1.0.0",
        "1,797 handwritten digits as 8x8 images of values 0 .. 16, from scikit-learn.",
        (("image", ((8, 8), "uint8")),),
        _digits,
        classes=10,
    ),
    Source(
        "patches",
        "1.0.0",
        "2,080 squares of 16x16 pixels of two photographs, from scikit-learn; the class is the "
        "photograph (0, 5) plus the fifth of its height. For training.",
        (("image", ((PATCH, PATCH, 3), "uint8")),),
        _patches,
        classes=10,
    ),
    Source(
        "wine",
        "1.0.0",
        "13 chemical measurements of 178 wines of three growers, from scikit-learn.",
        (("features", ((13,), "float32")),),
        _wine,
        classes=3,
    ),
)
