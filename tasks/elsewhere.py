"""Reads datasets that tensorflow-datasets has prepared elsewhere, with builders of its own."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from tasks.base import MissingData
from tasks.builders import Arrays, split_train
from tasks.info import Info, info
from tasks.sources.text import blocks

NAMES = ("cifar10", "fashion_mnist", "lm1b", "mnist")
TEXT_LIMIT = {"train": 14 << 20, "test": 2 << 20}  # bytes that are read of each, 16 MiB in all
_ROWS = 2_000  # examples read at once
_DESCRIPTION = "dataset_info.json"


def find(name: str, folder: Path) -> Path | None:
    """The newest version of a dataset under `folder`, with or without a config."""
    found = [
        path.parent
        for pattern in ("*", "*/*")
        for path in (folder / name).glob(f"{pattern}/{_DESCRIPTION}")
        if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)
    ]
    return min(
        found, key=lambda path: ([-int(n) for n in path.name.split(".")], path), default=None
    )


def read(name: str, place: Path) -> dict[str, Arrays]:
    """The four splits: its train is cut in three, its test is ours. Raises MissingData."""
    import tensorflow_datasets as tfds

    again = "prepare it again with tensorflow-datasets and file_format='array_record'"
    try:
        about = json.loads((place / _DESCRIPTION).read_text())
        if (form := about.get("fileFormat", "tfrecord")) != "array_record":
            raise MissingData(
                f"dataset {name!r}: the files in {place} are of the format {form}, which needs "
                f"TensorFlow; {again}"
            )
        builder: Any = tfds.builder_from_directory(place)
        train, test = (
            _examples(name, builder.as_data_source(split=part), TEXT_LIMIT[part])
            for part in ("train", "test")
        )
        return split_train(train, test)
    except MissingData:
        raise
    except Exception as error:  # each damaged file fails in a way of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MissingData(
            f"dataset {name!r}: the files in {place} are damaged or of another kind ({reason}); "
            f"{again}"
        ) from error


def _examples(name: str, examples: Any, limit: int) -> Arrays:
    about = info(name)
    return _images(examples, about) if about.kind == "image" else blocks(_text(examples, limit))


def _images(examples: Any, about: Info) -> Arrays:
    """image: uint8 (n, height, width[, channels]), decoded from PNG. label: int32."""
    count = len(examples)
    image = np.empty((count, *about.shape), np.uint8)
    label = np.empty(count, np.int64)
    for low in range(0, count, _ROWS):
        rows = examples.__getitems__(range(low, min(low + _ROWS, count)))
        for i, row in enumerate(rows, low):
            if row["image"].shape != about.shape:
                raise ValueError(f"an image of shape {row['image'].shape}, not {about.shape}")
            image[i], label[i] = row["image"], row["label"]
    if not set(np.unique(label)) <= set(range(about.classes)):
        raise ValueError(f"labels outside 0 .. {about.classes - 1}")
    return {
        "image": image[..., 0] if about.shape[-1] == 1 else image,
        "label": label.astype(np.int32),
    }


def _text(examples: Any, limit: int) -> bytes:
    """The first lines, `limit` bytes of them."""
    lines: list[bytes] = []
    length = 0
    for low in range(0, len(examples), _ROWS):
        for row in examples.__getitems__(range(low, min(low + _ROWS, len(examples)))):
            if not isinstance(row["text"], bytes):
                raise ValueError("its text is not stored as text; use the config plain_text")
            lines.append(row["text"])
            length += len(row["text"]) + 1
        if length >= limit:
            break
    return b"\n".join(lines)[:limit]
