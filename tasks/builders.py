"""The datasets as tensorflow-datasets builders that need neither TensorFlow nor a network."""

import builtins
import contextlib
import functools
import importlib
import inspect
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.base import SPLITS, MissingData
from tasks.corpus import generate
from tasks.info import BLOCK
from tasks.integers import permutation

Arrays = dict[str, np.ndarray]  # feature name -> values; leading axis: examples


_DOCUMENTED = ("argparse", "collections", "decimal", "email", "inspect", "json", "logging", "os")
_ENOUGH_TEXT = 200_000  # bytes


@dataclass(frozen=True)
class Source:
    """A dataset whose raw data is on every machine.

    version: rises when the prepared bytes change. features: the name, shape and dtype of each but
    the label, which is one of `classes` (0: no label). arrays(): all examples in their own order.
    """

    name: str
    version: str
    description: str
    features: tuple[tuple[str, tuple[tuple[int, ...], str]], ...]
    arrays: Callable[[], Arrays]
    classes: int = 0


def split(arrays: Arrays) -> dict[str, Arrays]:
    """Four disjoint parts, 70/10/10/10 percent, of the examples in a fixed random order."""
    count = len(next(iter(arrays.values())))
    order = np.array(permutation(count, seed=count))
    bounds = [0, count * 7 // 10, count * 8 // 10, count * 9 // 10, count]
    return {
        name: {feature: values[order[low:high]] for feature, values in arrays.items()}
        for name, low, high in zip(SPLITS, bounds[:-1], bounds[1:], strict=True)
    }


def write(source: Source, folder: Path) -> Path:
    """Prepares `source` under `folder` as array_record files; returns where they lie."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    builder = _builder_class(source)(source.arrays(), data_dir=folder, file_format="array_record")
    with contextlib.redirect_stdout(io.StringIO()):  # it announces itself in bold
        builder.download_and_prepare(
            download_dir=folder / "downloads",
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )
    return Path(builder.data_dir)


@functools.cache
def _builder_class(source: Source) -> type:
    """The builder of one source; a class cannot be defined twice under one name."""
    import tensorflow_datasets as tfds

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = source.name
        VERSION = tfds.core.Version(source.version)

        def __init__(self, arrays: Arrays, **options):
            self.parts = split(arrays)
            super().__init__(**options)

        def _info(self) -> tfds.core.DatasetInfo:
            features = {
                feature: tfds.features.Tensor(shape=shape, dtype=np.dtype(dtype))
                for feature, (shape, dtype) in source.features
            }
            if source.classes:
                features["label"] = tfds.features.ClassLabel(num_classes=source.classes)
            return tfds.core.DatasetInfo(
                builder=self,
                description=source.description,
                features=tfds.features.FeaturesDict(features),
                disable_shuffling=True,  # the splits are shuffled already
            )

        def _split_generators(self, dl_manager):
            del dl_manager
            return {part: self._generate_examples(part) for part in SPLITS}

        def _generate_examples(self, part):
            columns = self.parts[part]
            for i in range(len(next(iter(columns.values())))):
                yield i, {feature: values[i] for feature, values in columns.items()}

    return Builder


def _scikit_learn(loader: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows and the labels of one of the datasets that come with scikit-learn."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise MissingData(
            "scikit-learn, which brings the raw data, is not installed; "
            "get it with: pip install 'learned-opt[data]'"
        ) from error
    return getattr(datasets, loader)(return_X_y=True)


def _digits() -> Arrays:
    rows, label = _scikit_learn("load_digits")
    return {"image": rows.reshape(-1, 8, 8).astype(np.uint8), "label": label.astype(np.int64)}


def _wine() -> Arrays:
    rows, label = _scikit_learn("load_wine")
    return {"features": rows.astype(np.float32), "label": label.astype(np.int64)}


def _breast_cancer() -> Arrays:
    rows, label = _scikit_learn("load_breast_cancer")
    return {"features": rows.astype(np.float32), "label": label.astype(np.int64)}


def _blocks(text: bytes) -> Arrays:
    """Whole blocks of text; the last, incomplete one is dropped."""
    count = len(text) // BLOCK
    return {"text": np.frombuffer(text, np.uint8, count * BLOCK).reshape(count, BLOCK)}


def _documentation() -> Arrays:
    """The language reference that help() shows, then docstrings where that is short or absent."""
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        topics = {}
    text = "\n".join(topics[name] for name in sorted(topics))
    if len(text) < _ENOUGH_TEXT:
        text += "\n".join(_docstrings())
    blocks = _blocks(text.encode())
    if len(blocks["text"]) < 10:
        raise MissingData(
            "this Python came without its documentation: neither pydoc_data.topics nor docstrings; "
            "use a complete installation and no -OO"
        )
    return blocks


def _docstrings() -> Iterator[str]:
    for module in (builtins, *map(importlib.import_module, _DOCUMENTED)):
        for _, thing in sorted(inspect.getmembers(module), key=lambda member: member[0]):
            for inner in (thing, *(vars(thing).values() if inspect.isclass(thing) else ())):
                if isinstance(text := getattr(inner, "__doc__", None), str):
                    yield text


def _corpus() -> Arrays:
    return _blocks(generate())


_TEXT = (("text", ((BLOCK,), "uint8")),)
SOURCES = (
    Source(
        "digits",
        "1.0.0",
        "1,797 handwritten digits as 8x8 images of values 0 .. 16, from scikit-learn.",
        (("image", ((8, 8), "uint8")),),
        _digits,
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
    Source(
        "breast_cancer",
        "1.0.0",
        "30 measurements of 569 tumours, malignant (0) or benign (1), from scikit-learn.",
        (("features", ((30,), "float32")),),
        _breast_cancer,
        classes=2,
    ),
    Source(
        "documentation",
        ".".join(map(str, sys.version_info[:3])),  # every Python release has its own text
        "The language reference that comes with this Python, as bytes. For training only.",
        _TEXT,
        _documentation,
    ),
    Source(
        "corpus",
        "1.0.0",
        "English-like sentences from a small seeded grammar, as bytes.",
        _TEXT,
        _corpus,
    ),
)
