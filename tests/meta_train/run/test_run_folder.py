"""What a run records about the code it runs."""

import shutil
import subprocess

from meta_train.run import run_folder


def git(folder, *args):
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", str(folder), *who, *args], check=True, capture_output=True)


def test_the_commit_is_that_of_the_repository_that_tracks_the_code(tmp_path, monkeypatch):
    code = tmp_path / "lib" / "run_folder.py"
    code.parent.mkdir()
    shutil.copy(run_folder.__file__, code)
    monkeypatch.setattr(run_folder, "__file__", str(code))
    assert run_folder.commit() is None
    git(tmp_path, "init")
    (tmp_path / "mine.txt").write_text("of the user")
    git(tmp_path, "add", "mine.txt")
    git(tmp_path, "commit", "-m", "mine")
    assert run_folder.commit() is None  # a package installed inside a repository of something else
    git(tmp_path, "add", "lib")
    git(tmp_path, "commit", "-m", "code")
    found = run_folder.commit()
    assert found is not None and len(found) == 40
    code.write_text("")
    assert run_folder.commit() == found + "+"
