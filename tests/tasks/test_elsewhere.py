"""Folders that tensorflow-datasets prepared with builders of its own are read by name."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from tasks import data, elsewhere
from tasks.base import SPLITS, MissingData
from tasks.builders import split_train

COUNTS = {"train": 30, "test": 10}


def builder_class(name, features, rows, version="3.0.1", config=None):
    """What a builder of tensorflow-datasets is, as far as the files on disk go."""
    import tensorflow_datasets as tfds

    configs = [tfds.core.BuilderConfig(name=config, version=version)] if config else []
    members = {
        "name": name,
        "VERSION": tfds.core.Version(version),
        "BUILDER_CONFIGS": configs,
        "_info": lambda self: tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features())
        ),
        "_split_generators": lambda self, manager: {
            part: iter(list(enumerate(rows(part)))) for part in COUNTS
        },
        "_generate_examples": lambda self: None,
    }
    return type("Builder", (tfds.core.GeneratorBasedBuilder,), members, skip_registration=True)


def prepare(folder, *args, **kwargs):
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    builder = builder_class(*args, **kwargs)(data_dir=folder, file_format="array_record")
    builder.download_and_prepare(
        download_dir=folder / "downloads",
        download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    )
    return Path(builder.data_dir)


def pictures(part, shape, classes=10):
    rng = np.random.default_rng(len(part))
    image = rng.integers(0, 256, (COUNTS[part], *shape), np.uint8)
    return image, np.arange(COUNTS[part]) % classes


def prepare_images(folder, name, shape, **options):
    import tensorflow_datasets as tfds
    from PIL import Image

    def features():
        return {
            "image": tfds.features.Image(shape=shape, encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=10),
        }

    def rows(part):
        for image, label in zip(*pictures(part, shape), strict=True):
            file = io.BytesIO()
            Image.fromarray(image.squeeze()).save(file, "png")
            yield {"image": file.getvalue(), "label": label}

    return prepare(folder, name, features, rows, **options)


@pytest.mark.parametrize(
    "name, shape",
    [("mnist", (28, 28, 1)), ("fashion_mnist", (28, 28, 1)), ("cifar10", (32, 32, 3))],
)
def test_images_are_read_and_split_as_those_made_from_files(name, shape, tmp_path):
    place = prepare_images(tmp_path, name, shape)
    assert place == tmp_path / name / "3.0.1"
    parts = data.load(name, tmp_path)
    train, test = (
        {"image": image.squeeze(), "label": label.astype(np.int32)}
        for image, label in (pictures(part, shape) for part in COUNTS)
    )
    expected = split_train(train, test)
    assert [len(parts[split]["label"]) for split in SPLITS] == [24, 3, 3, 10]
    for split in SPLITS:
        for feature in ("image", "label"):
            np.testing.assert_array_equal(parts[split][feature], expected[split][feature])
            assert parts[split][feature].dtype == expected[split][feature].dtype
    assert data.load(name, tmp_path) is parts
    assert data.prepare(name, tmp_path) == place == data.present(name, tmp_path)


def prepare_text(folder, lines, **options):
    import tensorflow_datasets as tfds

    return prepare(
        folder,
        "lm1b",
        lambda: {"text": tfds.features.Text()},
        lambda part: ({"text": line} for line in lines(part)),
        **options,
    )


def test_text_becomes_blocks_up_to_a_limit(tmp_path, monkeypatch):
    def lines(part):
        return [f"{part} {i:05d} ".ljust(255, "x") for i in range(200)]

    prepare_text(tmp_path, lines, version="1.1.0", config="plain_text")
    assert elsewhere.find("lm1b", tmp_path) == tmp_path / "lm1b" / "plain_text" / "1.1.0"
    parts = data.load("lm1b", tmp_path)
    # 200 lines of 256 bytes with their ends, but the last: 49 whole blocks of each
    assert [len(parts[split]["text"]) for split in SPLITS] == [39, 5, 5, 49]
    assert parts["train"]["text"].shape[1] == 1024
    for split in SPLITS:
        word = b"test" if split == "test" else b"train"
        assert all(row.tobytes().count(word) == 4 for row in parts[split]["text"])

    monkeypatch.setattr(elsewhere, "TEXT_LIMIT", {"train": 20 * 1024, "test": 10 * 1024})
    found = elsewhere.read("lm1b", tmp_path / "lm1b" / "plain_text" / "1.1.0")
    assert [len(found[split]["text"]) for split in SPLITS] == [16, 2, 2, 10]


def test_the_newest_version_is_taken(tmp_path):
    for version in ("3.0.1", "3.0.10", "2.0.0"):
        prepare_images(tmp_path, "mnist", (28, 28, 1), version=version)
    assert elsewhere.find("mnist", tmp_path) == tmp_path / "mnist" / "3.0.10"


def refused(name, folder):
    with pytest.raises(MissingData) as caught:
        data.load(name, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_other_formats_and_damage_are_named(tmp_path):
    place = prepare_images(tmp_path, "cifar10", (32, 32, 3))
    about = json.loads((place / "dataset_info.json").read_text())
    assert about["fileFormat"] == "array_record"
    (place / "dataset_info.json").write_text(json.dumps(about | {"fileFormat": "tfrecord"}))
    message = refused("cifar10", tmp_path)
    assert f"{place} are of the format tfrecord" in message and "'array_record'" in message
    assert data.present("cifar10", tmp_path) is None
    (place / "dataset_info.json").write_text("{")
    assert "damaged or of another kind" in refused("cifar10", tmp_path)
    (place / "dataset_info.json").write_text(json.dumps(about))
    (place / "cifar10-test.array_record-00000-of-00001").write_bytes(b"")
    message = refused("cifar10", tmp_path)
    assert str(place) in message and "prepare it again with tensorflow-datasets" in message


def test_images_of_another_shape_are_refused(tmp_path):
    prepare_images(tmp_path, "mnist", (32, 32, 3))
    assert "an image of shape (32, 32, 3), not (28, 28, 1)" in refused("mnist", tmp_path)


def test_encoded_text_is_refused(tmp_path):
    import tensorflow_datasets as tfds

    prepare(
        tmp_path,
        "lm1b",
        lambda: {"text": tfds.features.Tensor(shape=(3,), dtype=np.int64)},
        lambda part: ({"text": [1, 2, 3]} for _ in range(5)),
        version="1.0.0",
        config="subwords8k",
    )
    assert "use the config plain_text" in refused("lm1b", tmp_path)


def test_what_is_nowhere_names_the_folder_and_the_format(tmp_path):
    message = refused("lm1b", tmp_path)
    assert f"not in {tmp_path / 'lm1b'}" in message and "array_record" in message
    with pytest.raises(MissingData, match="TFDS_DATA_DIR"):
        data.prepare("lm1b", tmp_path)
