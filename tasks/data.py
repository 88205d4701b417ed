"""Named datasets as arrays in memory, kept on disk in the format of tensorflow-datasets."""

import functools
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tasks.base import SPLITS, MissingData
from tasks.builders import Arrays, Source, split, write
from tasks.names import check_name
from tasks.sources import SOURCES

DATASETS: dict[str, Source] = SOURCES


def default_folder() -> Path:
    """Where datasets lie: $TFDS_DATA_DIR if set, else a folder in the user's cache."""
    if chosen := os.environ.get("TFDS_DATA_DIR"):
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "learned-opt" / "datasets"


def load(name: str, folder: Path | str | None = None) -> dict[str, Arrays]:
    """The dataset as split -> feature -> array (leading axis: examples), read-only.

    What is not in `folder` yet is prepared from data on this machine, never from a network. Raises
    ValueError for an unknown name, MissingData where the data cannot be had or is damaged.
    """
    check_name("dataset", name, DATASETS)
    return _load(name, Path(folder) if folder else default_folder())


def prepare(name: str, folder: Path | str | None = None) -> Path:
    """Writes the dataset to `folder` unless it is there and whole; returns where it lies.

    Several processes may do so at once: each writes into a folder of its own, and the first to
    finish gives its folder the final name.
    """
    check_name("dataset", name, DATASETS)
    source = DATASETS[name]
    folder = Path(folder) if folder else default_folder()
    place = _place(source, folder)
    damaged = place.exists()
    if damaged:
        try:
            _read(source, place)
            return place
        except MissingData:
            pass  # written anew below
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".preparing-", dir=folder) as scratch:
            written = write(source, split(source.arrays()), Path(scratch))
            if damaged:
                place.rename(Path(scratch) / "damaged")
            _publish(written, place)
    except MissingData as error:
        raise MissingData(
            f"dataset {name!r}: not in {place}; {error}, then run: learned-opt data prepare {name}"
        ) from error
    except OSError as error:
        raise MissingData(
            f"dataset {name!r}: cannot be written to {place}: {error}; "
            f"set TFDS_DATA_DIR to another folder and run: learned-opt data prepare {name}"
        ) from error
    return place


def _place(source: Source, folder: Path) -> Path:
    return folder / source.name / source.version


def _publish(written: Path, place: Path) -> None:
    """Gives `written` the name `place` in one step, unless another process was faster."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        written.rename(place)
    except OSError:
        if not place.exists():
            raise


@functools.cache
def _load(name: str, folder: Path) -> dict[str, Arrays]:
    source = DATASETS[name]
    place = _place(source, folder)
    if not place.exists():
        prepare(name, folder)
    return _read(source, place)


def _read(source: Source, place: Path) -> dict[str, Arrays]:
    import tensorflow_datasets as tfds

    try:
        builder: Any = tfds.builder_from_directory(place)
        return {part: _columns(source, builder.as_data_source(split=part)) for part in SPLITS}
    except Exception as error:  # each damaged file fails in a way of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MissingData(
            f"dataset {source.name!r}: the files in {place} are damaged or of another kind "
            f"({reason}); write them anew with: learned-opt data prepare {source.name}"
        ) from error


def _columns(source: Source, examples) -> Arrays:
    rows = examples.__getitems__(range(len(examples)))
    dtypes = {feature: dtype for feature, (_, dtype) in source.features}
    if source.classes:
        dtypes["label"] = "int32"
    columns = {
        feature: np.stack([row[feature] for row in rows]).astype(dtype)
        for feature, dtype in dtypes.items()
    }
    for values in columns.values():
        values.flags.writeable = False
    return columns
