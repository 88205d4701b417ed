import dataclasses

import numpy as np
import pytest
from helpers.reports import make_report

from meta_train.cli import main
from meta_train.evaluation.combine import combine
from meta_train.evaluation.results import Report, ResultsError


def saved(tmp_path, **reports):
    folders = []
    for name, report in reports.items():
        report.save(tmp_path / name)
        folders.append(tmp_path / name)
    return folders


def only(report, *numbers):
    """The report with some of its optimizers."""
    arrays = ("train_loss", "test_loss", "diverged", "seconds_per_step")
    return dataclasses.replace(
        report,
        optimizers=tuple(report.optimizers[n] for n in numbers),
        **{name: getattr(report, name)[list(numbers)] for name in arrays},
    )


def test_parts_of_an_evaluation_make_the_whole_again(tmp_path):
    whole = make_report()
    parts = saved(tmp_path, a=only(whole, 0, 2), b=only(whole, 1, 2))
    found = combine(parts)
    assert found.optimizers == ("rule <b>", "adam (tuned)", "wild")
    for one, two in enumerate((0, 2, 1)):
        np.testing.assert_array_equal(found.train_loss[one], whole.train_loss[two])
        assert found.verdicts[one].speedup == whole.verdicts[two].speedup
    assert found.grids == whole.grids and found.forms == whole.forms


def test_one_name_for_two_results_is_told_apart(tmp_path):
    one = make_report(versions={"jax": "0.0"})
    slower = dataclasses.replace(one, train_loss=one.train_loss * 1.1, versions={"jax": "9.9"})
    found = combine(saved(tmp_path, a=one, b=only(slower, 0)))
    assert found.optimizers == (*one.optimizers, "rule <b> [b]")
    assert found.forms["rule <b> [b]"] == "learned"
    assert found.versions["jax"] == "0.0 | 9.9"


def test_results_with_and_without_validation_make_one_without(tmp_path):
    one = make_report()
    other = make_report(optimizers=("rule <b>", "wild", "sgd (tuned)"), grids=False)
    other = dataclasses.replace(
        other,
        grids={"sgd (tuned)": one.grids["adam (tuned)"]},
        trial_loss={"sgd (tuned)": one.trial_loss["adam (tuned)"]},
    )
    found = combine(saved(tmp_path, a=one, b=other))
    assert one.validation is not None and found.validation is None
    (both,) = saved(tmp_path, both=found)
    assert list(Report.load(both).trial_loss) == ["adam (tuned)", "sgd (tuned)"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "cafe"}, "beef.*cafe"),
        ({"suite": "other"}, "other"),
        ({"tasks": ("first", "third")}, "tasks: first, second in .* first, third in"),
        ({"seeds": (0, 2)}, "seeds: 0, 1 in .* 0, 2 in .*fingerprint beef"),
        ({"eval_steps": tuple(range(0, 201, 20))}, "steps: 100 in .* 200 in .*fingerprint beef"),
    ],
)
def test_what_does_not_compare_is_refused(tmp_path, change, message):
    one = make_report(fingerprint="beef")
    folders = saved(tmp_path, a=one, b=dataclasses.replace(one, **change))
    with pytest.raises(ResultsError, match=message):
        combine(folders)


def test_the_command_writes_a_comparison(tmp_path, capsys):
    folders = saved(tmp_path, a=only(make_report(), 0, 2), b=only(make_report(), 1, 2))
    assert main(["report", *map(str, folders), "--out", str(tmp_path / "both")]) == 0
    assert Report.load(tmp_path / "both").optimizers == ("rule <b>", "adam (tuned)", "wild")
    assert (tmp_path / "both" / "report.html").is_file()
    other = dataclasses.replace(make_report(), fingerprint="cafe")
    other.save(tmp_path / "other")
    assert main(["report", str(folders[0]), str(tmp_path / "other")]) == 2
    assert "cafe" in capsys.readouterr().err
