import numpy as np
import pytest

from tasks import data
from tasks.base import SPLITS, MissingData


def test_a_local_file_is_read_as_blocks_in_four_splits(tmp_path):
    path = tmp_path / "novel.txt"
    content = bytes(np.random.default_rng(0).integers(0, 256, 20 * 1024 + 100, np.uint8))
    path.write_bytes(content)
    parts = data.load(f"text:{path}")
    assert [len(parts[split]["text"]) for split in SPLITS] == [14, 2, 2, 2]
    found = {block.tobytes() for split in SPLITS for block in parts[split]["text"]}
    assert found == {content[i * 1024 : (i + 1) * 1024] for i in range(20)}
    assert not parts["test"]["text"].flags.writeable
    assert data.load(f"text:{path}") is parts
    assert data.prepare(f"text:{path}") == path


def test_the_path_may_be_relative_or_of_the_home_folder(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(b"a" * 7168)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.load("text:a.txt") is data.load("text:~/a.txt")


def test_seven_blocks_are_the_fewest(tmp_path):
    path = tmp_path / "short.txt"
    path.write_bytes(b"a" * 7168)
    assert all(len(part["text"]) >= 1 for part in data.load(f"text:{path}").values())
    short = tmp_path / "shorter.txt"
    short.write_bytes(b"a" * 7167)
    with pytest.raises(MissingData, match="7,167 bytes are too few .* at least 7,168"):
        data.load(f"text:{short}")


def test_what_is_no_readable_file_is_named(tmp_path):
    with pytest.raises(MissingData, match="absent.txt: No such file or directory"):
        data.load(f"text:{tmp_path / 'absent.txt'}")
    with pytest.raises(MissingData, match="is not a file"):
        data.load(f"text:{tmp_path}")
