"""Fifty steps of imported weights against what the original code made of the same file.

The golden values are made by scripts/golden_published.py, which says how.
"""

from pathlib import Path

import numpy as np
import pytest
from helpers import published_files as files
from helpers.published_cases import CASES

import learned_opt
from meta_train.cli import main

GOLDEN = Path(__file__).parent / "golden"
QUICK = {"celo_adam"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in CASES]
)
def test_an_imported_rule_does_what_the_original_did(name, tmp_path):
    case = CASES[name]
    file, out = tmp_path / "published", tmp_path / "imported.safetensors"
    file.write_bytes(case.content())
    told = ("--source", "a test", "--licence", "none")
    assert main(["import", case.kind, str(file), "--out", str(out), *told, *case.command]) == 0
    golden = np.load(GOLDEN / f"{name}.npz")["params"]
    found = files.run(learned_opt.load(out, num_steps=case.num_steps))
    for tensor, (relative, moved) in files.differences(found, golden).items():
        assert relative < 1e-5 and moved < 1e-3, tensor
