"""The lists of optimizers, for people and for programs."""

import json
from pathlib import Path

import pytest

from learned_opt.hand.parts.registry import DECAYS, PARTS
from learned_opt.registry import HAND_DESIGNED
from meta_train.cli import main
from meta_train.cli.optimizer_table import reference

ROOT = Path(__file__).parents[3]


def test_the_table_of_optimizers_is_up_to_date():
    page = (ROOT / "docs" / "optimizers_table.md").read_text()
    hint = "run: learned-opt list optimizers --markdown > docs/optimizers_table.md"
    assert page == reference(), hint
    for name in (*HAND_DESIGNED, *PARTS, *DECAYS):
        assert f"\n| `{name}` |" in page


def test_optimizers_are_listed_with_what_steers_them(capsys):
    assert main(["list", "optimizers", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["hierarchical_rnn"]["learned"]
    adam = rows["adam"]
    assert adam["state_bytes_per_parameter"] == pytest.approx(8.0, abs=1e-3)
    assert adam["controls"]["b1"] == {"scale": "one_minus", "low": 0.5, "high": 0.997}
    assert adam["defaults"]["eps"] == 1e-8
    assert rows["adamw"]["needs"] == ["params"]
    assert all(row["formula"] and row["source"] for row in rows.values() if not row["learned"])


def test_only_optimizers_are_written_as_markdown(capsys):
    assert main(["list", "optimizers", "--markdown"]) == 0
    assert capsys.readouterr().out == reference()
    assert main(["list", "tasks", "--markdown"]) == 2
    assert "--markdown belongs to list optimizers" in capsys.readouterr().err
