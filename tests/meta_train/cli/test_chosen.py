"""What `evaluate` makes of names and paths, and where it puts its results."""

import jax
import pytest

from learned_opt import io
from learned_opt.anchors.relative_adam import RelativeAdam
from learned_opt.learned.hierarchical_rnn import HierarchicalRNN
from meta_train.cli.chosen import chosen_entries, results_folder, short_name

RULE = HierarchicalRNN(RelativeAdam(), level_sizes=(2, 2, 2), use_relative_lr=False)


@pytest.fixture
def run(tmp_path):
    """A run folder with a dot in its name."""
    folder = tmp_path / "runs" / "v1.2"
    (folder / "weights").mkdir(parents=True)
    (folder / "config.yaml").write_text("steps: 3")
    for name in ("best", "last"):
        io.write(folder / "weights" / f"{name}.safetensors", RULE, theta(), {})
    return folder


def theta():
    return RULE.init(jax.random.key(0))


def test_names_in_tables(run, tmp_path):
    assert short_name(str(run)) == short_name(f"{run}/") == "v1.2"
    assert short_name(str(run / "weights" / "best.safetensors")) == "v1.2"
    assert short_name(str(run / "weights" / "last.safetensors")) == "last"
    io.write(tmp_path / "mine.v2.safetensors", RULE, theta(), {})
    assert short_name(str(tmp_path / "mine.v2.safetensors")) == "mine.v2"
    assert short_name("adam") == "adam"


def test_a_file_does_not_take_the_place_of_a_baseline(run, tmp_path):
    path = tmp_path / "relative_adam.safetensors"
    io.write(path, RULE, theta(), {})
    entries = chosen_entries([str(path), str(run)], ["relative_adam"])
    assert [entry.name for entry in entries] == ["relative_adam (file)", "v1.2", "relative_adam"]
    assert [entry.optimizer == RULE for entry in entries] == [True, True, False]
    entries = chosen_entries(["relative_adam"], ["relative_adam"])
    assert [entry.name for entry in entries] == ["relative_adam"]


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


def test_a_hand_designed_optimizer_may_come_with_hyperparameters():
    (entry,) = chosen_entries(["relative_soap:anytime=true:weight_decay=0.1"], [])
    assert entry.name == "relative_soap:anytime=true:weight_decay=0.1"
    assert entry.optimizer.defaults["anytime"] is True
    assert entry.optimizer.defaults["weight_decay"] == 0.1
    with pytest.raises(ValueError, match="weight_decy.*did you mean weight_decay"):
        chosen_entries(["relative_soap:weight_decy=0.1"], [])
    with pytest.raises(ValueError, match="'anytime' is not allowed; it must be key=value"):
        chosen_entries(["relative_soap:anytime"], [])
