"""A tiny run that several files of tests compare with."""

import pytest
from helpers.runs import TINY

from meta_train.cli import main


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """A run of 60 meta-steps that nothing interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert main(["train", str(tiny), "--out", str(out)]) == 0
    return out


@pytest.fixture
def small_suite(monkeypatch):
    from tasks.families.synthetic import Quadratic
    from tasks.suites import SUITES, Suite

    monkeypatch.setitem(SUITES, "small", Suite((Quadratic(dim=2, name="bowl"),), steps=2))
    return "small"
