import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from tasks import data
from tasks.base import SPLITS, MissingData
from tasks.builders import split
from tasks.info import BLOCK
from tasks.sources.corpus import generate


def digest(parts):
    """SHA-256 of all arrays, split after split, features by name."""
    sha = hashlib.sha256()
    for name in SPLITS:
        for feature in sorted(parts[name]):
            sha.update(parts[name][feature].tobytes())
    return sha.hexdigest()


# Made with scikit-learn 1.9.1 and Pillow 13.0.0; docs/data.md repeats them. Other bytes need
# another version.
DIGESTS = {
    "digits": "3c4bfc36aab90a3802c83557364d23b4ab84d879cf3a7a3c9c0797d6822a8666",
    "wine": "239d84263e3cb4f69eed57bf0ba9b2a047ff5d155260be0503e1b3ec31b85bdb",
    "breast_cancer": "791a19f6ff5d2186fdf449c2f94ac7797393f122d24652a21ef73c56960a2c12",
    "diabetes": "51aa4de44e09951d406da4c7129be5f129de9976c43d4daf76eefe75ece85aaa",
    "patches": "34abce4f70b782bfcbb2567424cffaedf587aa0e92d93f067fc4b36761246c29",
    "shapes": "13507dd6dc2b596a7039c6996515ea543a26068190f93f483529a7d727830ea8",
    "reviews": "1010207c846e12d131a1731b8273e3e75aa51fecf23761ee8d7f411a6f05427d",
    "corpus": "61f73b789878a5b5dfaa921433d10098cfcb921e9dcb72e9e391adbad5112e7a",
}


@pytest.mark.parametrize("name", DIGESTS)
def test_bytes_are_the_same_everywhere(name):
    assert digest(data.load(name)) == DIGESTS[name]


def test_corpus_is_the_same_everywhere_and_reads_like_text():
    text = generate()
    assert hashlib.sha256(text).hexdigest() == (
        "b850e5f84a2a5928f88fe774c17f81c39c654be03bd06129b4e3c303f11cc352"
    )
    assert text.startswith(b"Some stones never paint the teachers. ")


def test_documentation_is_long_text_of_this_python():
    parts = data.load("documentation")
    blocks = np.concatenate([parts[name]["text"] for name in SPLITS])
    assert blocks.shape[1] == BLOCK and blocks.size > 150_000
    assert b"statement" in blocks.tobytes()
    version = data.DATASETS["documentation"].version
    assert version == ".".join(map(str, sys.version_info[:3]))


def test_documentation_falls_back_on_docstrings(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    blocks = data.DATASETS["documentation"].arrays()["text"]
    assert blocks.size > 100_000


def test_round_trip_through_the_disk(tmp_path):
    source = data.DATASETS["wine"]
    expected = split(source.arrays())
    parts = data.load("wine", tmp_path)
    for name in SPLITS:
        np.testing.assert_array_equal(parts[name]["features"], expected[name]["features"])
        np.testing.assert_array_equal(parts[name]["label"], expected[name]["label"])
        assert not parts[name]["features"].flags.writeable
    assert [path.name for path in tmp_path.iterdir()] == ["wine"]  # no scratch folder stays


def test_splits_are_disjoint_and_complete():
    parts = split({"index": np.arange(1797)})
    drawn = np.concatenate([parts[name]["index"] for name in SPLITS])
    assert sorted(drawn) == list(range(1797))
    assert [len(parts[name]["index"]) for name in SPLITS] == [1257, 180, 180, 180]
    assert np.any(np.diff(parts["train"]["index"]) < 0)


def truncate(place):
    os.truncate(place / "corpus-train.array_record-00000-of-00001", 70_000)


def flip(place):
    path = place / "corpus-test.array_record-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[5000] ^= 0xFF
    path.write_bytes(content)


def remove(place):
    (place / "corpus-inner_valid.array_record-00000-of-00001").unlink()


def scribble(place):
    (place / "dataset_info.json").write_text("{")


@pytest.mark.parametrize("damage", [truncate, flip, remove, scribble])
def test_damaged_files_are_named_and_prepared_anew(damage, tmp_path):
    place = data.prepare("corpus", tmp_path)
    damage(place)
    with pytest.raises(MissingData) as caught:
        data.load("corpus", tmp_path)
    message = str(caught.value)
    assert str(place) in message and "learned-opt data prepare corpus" in message
    assert "\n" not in message
    assert data.prepare("corpus", tmp_path) == place
    assert digest(data.load("corpus", tmp_path)) == DIGESTS["corpus"]


def test_files_of_another_dataset_are_refused(tmp_path):
    wine = data.prepare("wine", tmp_path)
    wine.parent.rename(tmp_path / "digits")
    with pytest.raises(MissingData, match="damaged or of another kind"):
        data.load("digits", tmp_path)


@pytest.mark.slow
def test_two_processes_prepare_at_once_without_network_or_tensorflow(tmp_path):
    script = """
import socket, sys
def refuse(*args): raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = refuse
from tasks import data
parts = data.load("corpus")
assert "tensorflow" not in sys.modules
print(len(parts["train"]["text"]))
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TFDS_DATA_DIR": str(tmp_path)},
        )
        for _ in range(2)
    ]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out == "136\n"
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_an_existing_place_wins_over_a_late_writer(tmp_path):
    place = tmp_path / "final"
    place.mkdir()
    (place / "file").write_text("first")
    late = tmp_path / "late"
    late.mkdir()
    data._publish(late, place)
    assert (place / "file").read_text() == "first"


def test_without_scikit_learn_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingData) as caught:
        data.load("digits", tmp_path)
    message = str(caught.value)
    assert "pip install 'learned-opt[data]'" in message and str(tmp_path) in message
    assert "learned-opt data prepare digits" in message


def test_prepared_data_needs_no_scikit_learn(monkeypatch, tmp_path):
    data.prepare("wine", tmp_path)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert len(data.load("wine", tmp_path)["train"]["label"]) == 124


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingData, match="TFDS_DATA_DIR"):
        data.load("corpus", tmp_path / "file")


@pytest.mark.parametrize("use", [data.load, data.prepare])
def test_an_unknown_name_gets_the_nearest(use):
    with pytest.raises(ValueError, match="'digit'; did you mean digits?"):
        use("digit")


def test_the_folder_is_the_users_choice(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert data.default_folder() == tmp_path
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data.default_folder() == tmp_path / "learned-opt" / "datasets"
