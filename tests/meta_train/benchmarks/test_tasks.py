import json

from meta_train.cli import main


def test_bench_tasks_measures_the_kinds_asked_for(capsys):
    assert main(["bench", "tasks", "quadratic", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (row,) = found["tasks"]
    assert row["kind"] == "quadratic" and row["parameters"] == 20
    assert row["vmapped_us"] > 0 and row["alone_us"] > 0 and found["peak_memory_mib"] > 100
    assert main(["bench", "tasks", "quadratik"]) == 2
    assert "did you mean quadratic?" in capsys.readouterr().err
