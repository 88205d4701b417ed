"""The picture of learning curves in the README."""

import curves
import pytest
from helpers.reports import make_report


@pytest.fixture
def results(tmp_path):
    report = make_report()
    report.save(tmp_path / "results")
    return str(tmp_path / "results"), report.tasks


def test_it_draws_every_task_it_is_given_and_the_same_bytes_again(results, tmp_path):
    folder, tasks = results
    for name in ("one.svg", "two.svg"):
        curves.main([folder, str(tmp_path / name), "--tasks", *tasks])
    drawn = (tmp_path / "one.svg").read_text()
    assert all(f"<!-- {task} -->" in drawn for task in tasks)
    assert drawn == (tmp_path / "two.svg").read_text()


def test_a_task_that_is_not_there_and_a_folder_without_results_are_refused(results, capsys):
    folder, _ = results
    for given, message in (
        ([folder, "a.svg", "--tasks", "lost"], "--tasks: lost is not allowed; it must be of"),
        ([folder + "x", "a.svg", "--tasks", "lost"], "results.parquet"),
    ):
        with pytest.raises(SystemExit) as left:
            curves.main(given)
        assert left.value.code == 2 and message in capsys.readouterr().err
