"""Files made on the spot are prepared, read back, and refused when they are not what they claim."""

import gzip
import io
import tarfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import data
from tasks.base import SPLITS, MissingData
from tasks.families.mlp import MLPClassifier

PARTS = {"train": 50, "t10k": 20}


def idx(values):
    header = np.array([0x800 + values.ndim, *values.shape], ">u4")
    return header.tobytes() + values.tobytes()


def digits(count, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (count, 28, 28), np.uint8)
    return image, np.arange(count, dtype=np.uint8) % 10


def write_mnist(folder, zipped=("train-images",), mark="-"):
    for seed, (part, count) in enumerate(PARTS.items()):
        for what, values in zip(("images", "labels"), digits(count, seed), strict=True):
            name = f"{part}-{what}{mark}idx{values.ndim}-ubyte"
            content = idx(values)
            if f"{part}-{what}" in zipped:
                name, content = name + ".gz", gzip.compress(content)
            (folder / name).write_bytes(content)
    return folder


def pairs(parts, names):
    """The examples as a set of (bytes of the image, label)."""
    return {
        (image.tobytes(), int(label))
        for name in names
        for image, label in zip(parts[name]["image"], parts[name]["label"], strict=True)
    }


def test_a_network_trains_on_files_made_on_the_spot(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    family = MLPClassifier(dataset="mnist", widths=(32,), centre=True)
    with pytest.raises(MissingData, match="data prepare mnist"):
        family.load()
    data.prepare("mnist", files=write_mnist(tmp_path))
    key = jax.random.key(0)
    task = family.task(family.sample(key), jax.tree.map(jnp.asarray, family.load()))
    params, batch = task.init(key), task.whole("train")
    gradient = jax.jit(jax.value_and_grad(task.loss))
    losses = []
    for _ in range(30):
        loss, step = gradient(params, key, batch)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, step)
        losses.append(float(loss))
    assert abs(losses[0] - np.log(10)) < 1.0 and losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_files_become_four_splits(name, tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    write_mnist(files)
    place = data.prepare(name, tmp_path, files)
    assert place == tmp_path / name / "1.0.0"
    parts = data.load(name, tmp_path)
    assert [len(parts[split]["label"]) for split in SPLITS] == [40, 5, 5, 20]
    assert parts["train"]["image"].dtype == np.uint8
    assert parts["train"]["image"].shape == (40, 28, 28)
    for splits, (count, seed) in ((SPLITS[:3], (50, 0)), (SPLITS[3:], (20, 1))):
        image, label = digits(count, seed)
        expected = {(a.tobytes(), int(b)) for a, b in zip(image, label, strict=True)}
        assert pairs(parts, splits) == expected
    assert data.load(name, tmp_path) is parts and data.prepare(name, tmp_path) == place


def test_the_order_of_the_files_does_not_matter(tmp_path):
    write_mnist(tmp_path)
    data.prepare("mnist", tmp_path / "a", tmp_path)
    image, label = digits(50, 0)
    (tmp_path / "train-images-idx3-ubyte.gz").unlink()
    (tmp_path / "train-images.idx3-ubyte").write_bytes(idx(image[::-1].copy()))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(label[::-1].copy()))
    data.prepare("mnist", tmp_path / "b", tmp_path)
    first, second = (data.load("mnist", tmp_path / name) for name in "ab")
    for split in SPLITS:
        np.testing.assert_array_equal(first[split]["image"], second[split]["image"])
        np.testing.assert_array_equal(first[split]["label"], second[split]["label"])


def test_files_that_are_named_replace_what_was_prepared(tmp_path):
    write_mnist(tmp_path)
    place = data.prepare("mnist", tmp_path, tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(digits(30, 7)[0]))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(digits(30, 7)[1]))
    assert data.prepare("mnist", tmp_path, tmp_path) == place
    assert len(data.load("mnist", tmp_path)["test"]["label"]) == 30


LABELS = "train-labels-idx1-ubyte"
IMAGES = "train-images-idx3-ubyte"


@pytest.mark.parametrize(
    "file, content, message",
    [
        (LABELS, None, "has neither train-labels-idx1-ubyte nor"),
        (LABELS, idx(np.arange(50, dtype=np.uint8)), "label 49; it must be in 0 .. 9"),
        (LABELS, idx(np.zeros(50, np.uint8)), "examples of 1 classes"),
        (LABELS, idx(np.zeros(49, np.uint8)), "50 images, but 49 labels"),
        (LABELS, idx(digits(50, 0)[0]), "begins with 0x00000803; it must begin with 0x00000801"),
        (LABELS, b"12", "2 bytes are too few for the header"),
        (IMAGES, idx(digits(50, 0)[0])[:-1], "cut off, 39,215 bytes instead of 39,216"),
        (IMAGES, idx(digits(50, 0)[0]) + b"x", "too long, 39,217 bytes instead of 39,216"),
        (IMAGES, idx(np.zeros((50, 8, 8), np.uint8)), "8x8 pixels; they must be of 28x28"),
        (IMAGES + ".gz", gzip.compress(idx(digits(50, 0)[0]))[:-100], "cannot be read"),
        (IMAGES + ".gz", b"no gzip", "cannot be read"),
    ],
)
def test_wrong_idx_files_are_named(file, content, message, tmp_path):
    write_mnist(tmp_path, zipped=())
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / IMAGES).unlink() if file.endswith(".gz") else None
        (tmp_path / file).write_bytes(content)
    with pytest.raises(MissingData) as caught:
        data.prepare("mnist", tmp_path / "out", tmp_path)
    assert message in str(caught.value) and str(tmp_path) in str(caught.value)
    assert not (tmp_path / "out" / "mnist").exists()


def test_too_few_images_for_every_split(tmp_path):
    write_mnist(tmp_path, zipped=())
    (tmp_path / IMAGES).write_bytes(idx(digits(4, 0)[0]))
    (tmp_path / LABELS).write_bytes(idx(digits(4, 0)[1]))
    with pytest.raises(MissingData, match="too few images; the split inner_valid would have none"):
        data.prepare("mnist", tmp_path / "out", tmp_path)


BATCHES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]


def records(seed, count=10):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (count, 3073), np.uint8)
    rows[:, 0] = np.arange(count) % 10
    return rows


def write_cifar(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(BATCHES):
        (folder / name).write_bytes(records(seed).tobytes())


def archive(path, names=BATCHES):
    with tarfile.open(path, "w:gz") as file:
        for seed, name in enumerate(names):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            content = records(seed).tobytes()
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("form", ["loose", "folder", "archive"])
def test_cifar_batches_become_four_splits(form, tmp_path):
    if form == "archive":
        archive(tmp_path / "cifar-10-binary.tar.gz")
    else:
        write_cifar(tmp_path / "cifar-10-batches-bin" if form == "folder" else tmp_path)
    data.prepare("cifar10", tmp_path / "out", tmp_path)
    parts = data.load("cifar10", tmp_path / "out")
    assert [len(parts[split]["label"]) for split in SPLITS] == [40, 5, 5, 10]
    rows = records(5)
    image = np.empty((10, 32, 32, 3), np.uint8)
    for channel in range(3):
        plane = rows[:, 1 + 1024 * channel : 1 + 1024 * (channel + 1)]
        image[..., channel] = plane.reshape(10, 32, 32)
    expected = {(a.tobytes(), int(b)) for a, b in zip(image, rows[:, 0], strict=True)}
    assert pairs(parts, ["test"]) == expected


def test_wrong_cifar_files_are_named(tmp_path):
    def refused():
        with pytest.raises(MissingData) as caught:
            data.prepare("cifar10", tmp_path / "out", tmp_path)
        return str(caught.value)

    assert "has neither data_batch_1.bin nor cifar-10-binary.tar.gz" in refused()
    archive(tmp_path / "cifar-10-binary.tar.gz", BATCHES[:-1])
    assert "has no test_batch.bin" in refused()
    content = (tmp_path / "cifar-10-binary.tar.gz").read_bytes()
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(content[: len(content) // 2])
    assert "cifar-10-binary.tar.gz: cannot be read" in refused()
    write_cifar(tmp_path)
    (tmp_path / "data_batch_3.bin").write_bytes(b"x" * 3072)
    assert "data_batch_3.bin: cut off or of another kind, 3,072 bytes" in refused()
    (tmp_path / "data_batch_3.bin").unlink()
    assert "data_batch_3.bin" in refused()


def test_the_message_without_data_names_the_folder_and_every_way(tmp_path):
    with pytest.raises(MissingData) as caught:
        data.load("mnist", tmp_path)
    message = str(caught.value)
    assert f"not in {tmp_path / 'mnist'}" in message and "\n" not in message
    assert "(12 MB)" in message and "learned-opt data prepare mnist --from DIR" in message
    assert "TFDS_DATA_DIR" in message and "array_record" in message


def test_only_some_datasets_are_made_from_files(tmp_path):
    with pytest.raises(ValueError, match="'wine'.*allowed: cifar10, fashion_mnist, mnist"):
        data.prepare("wine", tmp_path, tmp_path)
