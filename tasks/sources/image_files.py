"""Image sets that people have as files: MNIST's idx format and the binary batches of CIFAR-10."""

import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.base import MissingData
from tasks.builders import Arrays, Source
from tasks.download import Download

_LABELS, _IMAGES = 0x801, 0x803  # first four bytes: unsigned bytes in one and in three dimensions
_SIDE = 28
_CLASSES = 10
_RECORD = 1 + 3 * 32 * 32  # bytes of one image in CIFAR's batches: label, then planes
_BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
_ARCHIVE = "cifar-10-binary.tar.gz"


class ImageFiles(NamedTuple):
    """read(folder): the training and the test examples of the files there."""

    source: Source
    read: Callable[[Path], tuple[Arrays, Arrays]]
    downloads: tuple[Download, ...]


def read_idx(folder: Path) -> tuple[Arrays, Arrays]:
    """The training and the test images of MNIST's four files, plain or .gz."""
    return _idx_pair(folder, "train"), _idx_pair(folder, "t10k")


def _idx_pair(folder: Path, part: str) -> Arrays:
    images_at, images = _open_idx(folder, part, "images", 3)
    labels_at, labels = _open_idx(folder, part, "labels", 1)
    shape = _dimensions(images_at, images, _IMAGES, 3)
    (count,) = _dimensions(labels_at, labels, _LABELS, 1)
    if shape[1:] != (_SIDE, _SIDE):
        raise MissingData(
            f"{images_at}: images of {shape[1]}x{shape[2]} pixels; they must be of {_SIDE}x{_SIDE}"
        )
    if shape[0] != count:
        raise MissingData(f"{images_at}: {shape[0]} images, but {count} labels in {labels_at}")
    return _checked(
        np.frombuffer(images, np.uint8, offset=16).reshape(shape),
        np.frombuffer(labels, np.uint8, offset=8),
        str(labels_at),
    )


def _open_idx(folder: Path, part: str, what: str, dimensions: int) -> tuple[Path, bytes]:
    names = [f"{part}-{what}{mark}idx{dimensions}-ubyte" for mark in "-."]
    for path in (folder / (name + end) for name in names for end in ("", ".gz")):
        if path.is_file():
            return path, _content(path)
    raise MissingData(f"{folder}: has neither {names[0]} nor {names[0]}.gz")


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (EOFError, OSError, zlib.error) as error:
        raise MissingData(f"{path}: cannot be read, {error}") from error


def _dimensions(path: Path, content: bytes, magic: int, count: int) -> tuple[int, ...]:
    """The sizes in the header of an idx file; the file must be as long as they say."""
    head = 4 * (1 + count)
    if len(content) < head:
        raise MissingData(f"{path}: {len(content)} bytes are too few for the header of an idx file")
    found, *sizes = (int(number) for number in np.frombuffer(content[:head], ">u4"))
    if found != magic:
        raise MissingData(f"{path}: begins with {found:#010x}; it must begin with {magic:#010x}")
    expected = head + int(np.prod(sizes, dtype=object))
    if len(content) != expected:
        wrong = "cut off" if len(content) < expected else "too long"
        raise MissingData(f"{path}: {wrong}, {len(content):,} bytes instead of {expected:,}")
    return tuple(sizes)


def _checked(image: np.ndarray, label: np.ndarray, where: str) -> Arrays:
    classes = np.unique(label)
    if classes.size and classes[-1] >= _CLASSES:
        raise MissingData(f"{where}: label {classes[-1]}; it must be in 0 .. {_CLASSES - 1}")
    if classes.size < 2:
        raise MissingData(f"{where}: examples of {classes.size} classes; at least 2 are needed")
    return {"image": image, "label": label.astype(np.int32)}


def read_cifar(folder: Path) -> tuple[Arrays, Arrays]:
    """The training and the test images of CIFAR-10's binary batches, loose or in their archive."""
    for place in (folder, folder / "cifar-10-batches-bin"):
        if (place / _BATCHES[0]).is_file():
            batches = {name: _loose(place / name) for name in _BATCHES}
            break
    else:
        if not (folder / _ARCHIVE).is_file():
            raise MissingData(f"{folder}: has neither {_BATCHES[0]} nor {_ARCHIVE}")
        batches = dict(_archived(folder / _ARCHIVE))
        if absent := [name for name in _BATCHES if name not in batches]:
            raise MissingData(f"{folder / _ARCHIVE}: has no {absent[0]}")
    train = b"".join(batches[name] for name in _BATCHES[:-1])
    return _records(train, f"{folder}: the data batches"), _records(
        batches[_BATCHES[-1]], f"{folder}: {_BATCHES[-1]}"
    )


def _loose(path: Path) -> bytes:
    content = _content(path)
    _check_records(content, str(path))
    return content


def _archived(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name).name
                if name in _BATCHES and (file := archive.extractfile(member)):
                    content = file.read()
                    _check_records(content, f"{path}: {name}")
                    yield name, content
    except (EOFError, OSError, tarfile.TarError, zlib.error) as error:
        raise MissingData(f"{path}: cannot be read, {error}") from error


def _check_records(content: bytes, where: str) -> None:
    if not content or len(content) % _RECORD:
        raise MissingData(
            f"{where}: cut off or of another kind, {len(content):,} bytes are not a whole number "
            f"of images of {_RECORD:,}"
        )


def _records(content: bytes, where: str) -> Arrays:
    rows = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    planes = rows[:, 1:].reshape(-1, 3, 32, 32)
    return _checked(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), rows[:, 0], where)


def _mnist_like(name: str, about: str, base: str, facts: tuple[tuple[str, int, str], ...]):
    source = Source(
        name,
        "1.0.0",
        about,
        (("image", ((_SIDE, _SIDE), "uint8")),),
        classes=_CLASSES,
    )
    downloads = tuple(Download(base + file, size, sha256) for file, size, sha256 in facts)
    return ImageFiles(source, read_idx, downloads)


FILES: dict[str, ImageFiles] = {
    "cifar10": ImageFiles(
        Source(
            "cifar10",
            "1.0.0",
            "60,000 photographs of 32x32 pixels of ten kinds of things.",
            (("image", ((32, 32, 3), "uint8")),),
            classes=_CLASSES,
        ),
        read_cifar,
        (
            Download(
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                170_052_171,
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
        ),
    ),
    "fashion_mnist": _mnist_like(
        "fashion_mnist",
        "70,000 grey pictures of 28x28 pixels of ten kinds of clothes.",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        (
            (
                "train-images-idx3-ubyte.gz",
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            (
                "train-labels-idx1-ubyte.gz",
                29_515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            (
                "t10k-images-idx3-ubyte.gz",
                4_422_102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            (
                "t10k-labels-idx1-ubyte.gz",
                5_148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
    ),
    "mnist": _mnist_like(
        "mnist",
        "70,000 handwritten digits of 28x28 pixels.",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        (
            (
                "train-images-idx3-ubyte.gz",
                9_912_422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            (
                "train-labels-idx1-ubyte.gz",
                28_881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            (
                "t10k-images-idx3-ubyte.gz",
                1_648_877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            (
                "t10k-labels-idx1-ubyte.gz",
                4_542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
    ),
}
