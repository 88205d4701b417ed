"""Where a command puts its results."""

import pytest

from meta_train.cli.results_folder import results_folder


def test_a_folder_of_results_is_never_taken_twice_unless_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for expected in ("a", "a-2", "a-3"):
        with results_folder(None, "a") as folder:
            assert folder.name == expected and folder.parent.name == "results"
            (folder / "results.json").write_text("{}")
    with results_folder(folder, "a") as again:
        assert again == folder and (again / "results.json").exists()


def test_a_folder_made_for_nothing_goes_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for given in (None, tmp_path / "new", tmp_path / "mine"):
        with pytest.raises(KeyboardInterrupt), results_folder(given, "a"):
            raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "results"]
    assert not any((tmp_path / "results").iterdir())


def test_a_folder_that_cannot_be_is_an_error_before_anything_runs(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(OSError), results_folder(path, "a"):
            raise AssertionError("must not be reached")
