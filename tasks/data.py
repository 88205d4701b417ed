"""Named datasets as arrays in memory, kept on disk in the format of tensorflow-datasets."""

import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tasks import elsewhere
from tasks.base import SPLITS, MissingData
from tasks.builders import Arrays, Source, split, split_train, write
from tasks.download import fetch, plan
from tasks.info import INFO, TEXT_FILE
from tasks.names import check_name
from tasks.sources import FILES, SOURCES
from tasks.sources.text import read_file

DATASETS: dict[str, Source] = SOURCES | {name: files.source for name, files in FILES.items()}
_ROWS = 2_000  # examples read at once


def default_folder() -> Path:
    """Where datasets lie: $TFDS_DATA_DIR if set, else a folder in the user's cache."""
    if chosen := os.environ.get("TFDS_DATA_DIR"):
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "learned-opt" / "datasets"


def load(name: str, folder: Path | str | None = None) -> dict[str, Arrays]:
    """The dataset as split -> feature -> array (leading axis: examples), read-only.

    What is not in `folder` yet is prepared from data on this machine, never from a network. The
    arrays are read once and the same ever after. Raises ValueError for an unknown name,
    MissingData where the data cannot be had or is damaged.
    """
    if name.startswith(TEXT_FILE):
        return _load_text(_text_path(name).absolute())
    check_name("dataset", name, INFO)
    return _load(name, Path(folder) if folder else default_folder())


def present(name: str, folder: Path | str | None = None) -> Path | None:
    """Where the dataset lies, whole, made here or elsewhere; None if it does not."""
    check_name("dataset", name, INFO)
    folder = Path(folder) if folder else default_folder()
    place = _locate(name, folder)
    try:
        if place:
            _read(name, place, folder)
        return place
    except MissingData:
        return None


def download(
    name: str, folder: Path | str | None = None, say: Callable[[str], None] = print
) -> Path:
    """Fetches the files that `prepare` makes the dataset from; returns the folder they lie in.

    say: is given a line at a time, first what will be fetched and where to.
    """
    check_name("dataset", name, FILES)
    into = (Path(folder) if folder else default_folder()) / "downloads" / name
    say(f"{name}: downloading")
    for line in plan(FILES[name].downloads, into):
        say(line)
    return fetch(FILES[name].downloads, into, say)


def prepare(name: str, folder: Path | str | None = None, files: Path | str | None = None) -> Path:
    """Writes the dataset to `folder` unless it is there and whole; returns where it lies.

    files: a folder with the files of MNIST or CIFAR-10, from which it is written in any case.
    Several processes may do so at once: each writes into a folder of its own, and the first to
    finish gives its folder the final name.
    """
    if files is not None:
        check_name("dataset from files", name, FILES)
    if name.startswith(TEXT_FILE):
        load(name)
        return _text_path(name)
    folder = Path(folder) if folder else default_folder()
    if files is None and (found := present(name, folder)):
        return found
    if name not in DATASETS:
        raise _not_there(name, folder)
    place = _own(name, folder)
    parts = _raw(name, folder, files)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".preparing-", dir=folder) as scratch:
            written = write(DATASETS[name], parts, Path(scratch))
            if place.exists():
                place.rename(Path(scratch) / "old")
            _publish(written, place)
    except OSError as error:
        raise MissingData(
            f"dataset {name!r}: cannot be written to {place}: {error}; "
            f"set TFDS_DATA_DIR to another folder and run: learned-opt data prepare {name}"
        ) from error
    return place


def _raw(name: str, folder: Path, files: Path | str | None) -> dict[str, Arrays]:
    """The four splits from the raw data, be it on this machine already or in `files`."""
    if name in SOURCES:
        try:
            return split(SOURCES[name].arrays())
        except MissingData as error:
            raise MissingData(
                f"dataset {name!r}: not in {_own(name, folder)}; {error}, "
                f"then run: learned-opt data prepare {name}"
            ) from error
    if files is None:
        raise _not_there(name, folder)
    train, test = FILES[name].read(Path(files).expanduser())
    parts = split_train(train, test)
    if empty := [part for part in SPLITS if not len(parts[part]["label"])]:
        raise MissingData(f"{files}: too few images; the split {empty[0]} would have none")
    return parts


def _not_there(name: str, folder: Path) -> MissingData:
    """The ways to get a dataset that this package does not have at hand."""
    where = f"dataset {name!r}: not in {folder / name}"
    prepared = (
        f"set TFDS_DATA_DIR to a folder in which tensorflow-datasets has prepared {name} with "
        "file_format='array_record'"
    )
    if name not in FILES:
        return MissingData(f"{where}; {prepared}")
    size = sum(file.size for file in FILES[name].downloads) / 1e6
    return MissingData(
        f"{where}; download it ({size:.0f} MB) with: learned-opt data prepare {name}; or take the "
        f"files you have with: learned-opt data prepare {name} --from DIR; or {prepared}"
    )


def _own(name: str, folder: Path) -> Path:
    return folder / name / DATASETS[name].version


def _locate(name: str, folder: Path) -> Path | None:
    """Where the dataset lies, whole or not: what was made here before what was made elsewhere."""
    own = _own(name, folder) if name in DATASETS else None
    if own and own.exists():
        return own
    return elsewhere.find(name, folder) if name in elsewhere.NAMES else None


def _publish(written: Path, place: Path) -> None:
    """Gives `written` the name `place` in one step, unless another process was faster."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        written.rename(place)
    except OSError:
        if not place.exists():
            raise


def _text_path(name: str) -> Path:
    return Path(name.removeprefix(TEXT_FILE)).expanduser()


@functools.cache
def _load_text(path: Path) -> dict[str, Arrays]:
    return _frozen(split(read_file(path)))


@functools.cache
def _load(name: str, folder: Path) -> dict[str, Arrays]:
    return _read(name, _locate(name, folder) or prepare(name, folder), folder)


def _read(name: str, place: Path, folder: Path) -> dict[str, Arrays]:
    if name not in DATASETS or place != _own(name, folder):
        return _frozen(elsewhere.read(name, place))
    import tensorflow_datasets as tfds

    try:
        builder: Any = tfds.builder_from_directory(place)
        return _frozen(
            {part: _columns(DATASETS[name], builder.as_data_source(split=part)) for part in SPLITS}
        )
    except Exception as error:  # each damaged file fails in a way of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MissingData(
            f"dataset {name!r}: the files in {place} are damaged or of another kind "
            f"({reason}); write them anew with: learned-opt data prepare {name}"
        ) from error


def _columns(source: Source, examples) -> Arrays:
    count = len(examples)
    forms = dict(source.features)
    if source.classes:
        forms["label"] = ((), "int32")
    columns = {name: np.empty((count, *shape), dtype) for name, (shape, dtype) in forms.items()}
    for low in range(0, count, _ROWS):  # rows take many times the memory of the arrays
        for i, row in enumerate(examples.__getitems__(range(low, min(low + _ROWS, count))), low):
            for name, values in columns.items():
                values[i] = row[name]
    return columns


def _frozen(parts: dict[str, Arrays]) -> dict[str, Arrays]:
    for columns in parts.values():
        for values in columns.values():
            values.flags.writeable = False
    return parts
