"""Splits datasets and writes them with tensorflow-datasets, but neither TensorFlow nor network."""

import contextlib
import functools
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.base import SPLITS, MissingData
from tasks.integers import permutation

Arrays = dict[str, np.ndarray]  # feature name -> values; leading axis: examples


def _not_here() -> Arrays:
    raise MissingData("the raw data is not on this machine")


@dataclass(frozen=True)
class Source:
    """A dataset this package writes to disk.

    version: rises when the prepared bytes change. features: the name, shape and dtype of each but
    the label, which is one of `classes` (0: no label). arrays(): all examples in their own order;
    it raises MissingData where the raw data is not on this machine.
    """

    name: str
    version: str
    description: str
    features: tuple[tuple[str, tuple[tuple[int, ...], str]], ...]
    arrays: Callable[[], Arrays] = _not_here
    classes: int = 0


def split(arrays: Arrays) -> dict[str, Arrays]:
    """Four disjoint parts, 70/10/10/10 percent, of the examples in a fixed random order."""
    count = len(next(iter(arrays.values())))
    order = np.array(permutation(count, seed=count))
    return _cut(arrays, order, [0, count * 7 // 10, count * 8 // 10, count * 9 // 10, count])


def split_train(train: Arrays, test: Arrays) -> dict[str, Arrays]:
    """`train` cut 80/10/10 percent, and `test` as it is; both in an order fixed by their content.

    So the parts are the same whichever files, in whichever order, the examples came from.
    """
    count = len(next(iter(train.values())))
    parts = _cut(train, _by_content(train), [0, count * 8 // 10, count * 9 // 10, count])
    return parts | _cut(test, _by_content(test), [0, len(next(iter(test.values())))], SPLITS[3:])


def _by_content(arrays: Arrays) -> np.ndarray:
    """The order of the SHA-256 of the examples: random, but the same wherever they come from."""
    columns = [np.ascontiguousarray(arrays[feature]) for feature in sorted(arrays)]
    digests = [
        hashlib.sha256(b"".join(row.tobytes() for row in rows)).digest()
        for rows in zip(*columns, strict=True)
    ]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), np.int64)


def _cut(
    arrays: Arrays, order: np.ndarray, bounds: list[int], names: tuple[str, ...] = SPLITS
) -> dict[str, Arrays]:
    return {
        name: {feature: values[order[low:high]] for feature, values in arrays.items()}
        for name, low, high in zip(names, bounds[:-1], bounds[1:], strict=False)
    }


def write(source: Source, parts: dict[str, Arrays], folder: Path) -> Path:
    """Prepares the four parts under `folder` as array_record files; returns where they lie."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    builder = _builder_class(source)(parts, data_dir=folder, file_format="array_record")
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

        def __init__(self, parts: dict[str, Arrays], **options):
            self.parts = parts
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
