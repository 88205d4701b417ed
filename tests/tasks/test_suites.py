import dataclasses
from pathlib import Path

import pytest

from tasks import suites
from tasks.suites import SUITES, describe, fingerprint

CONFIGS = Path(__file__).parents[2] / "configs"


def names(suite):
    return [family.name for family in SUITES[suite]]


def test_names_are_unique_and_the_quick_suite_is_part_of_the_small_one():
    for suite in SUITES:
        assert len(set(names(suite))) == len(names(suite))
    assert len(names("heldout_small")) == 8 and len(names("heldout_quick")) == 5
    assert set(SUITES["heldout_quick"]) < set(SUITES["heldout_small"])


def test_selection_and_held_out_share_no_task():
    assert not set(SUITES["selection_small"]) & set(SUITES["heldout_small"])


def test_text_that_differs_between_pythons_is_not_held_out():
    for suite in ("heldout_small", "heldout_quick"):
        assert all(getattr(f, "dataset", None) != "documentation" for f in SUITES[suite])
    for family in SUITES["selection_small"]:
        assert family.dataset in ("digits", "documentation")


def test_fingerprints_tell_suites_apart_and_follow_every_field(monkeypatch):
    prints = {fingerprint(suite) for suite in SUITES}
    assert len(prints) == len(SUITES) and all(len(text) == 64 for text in prints)
    before = fingerprint("heldout_small")
    first, *rest = SUITES["heldout_small"]
    changed = (dataclasses.replace(first, dim=31), *rest)
    monkeypatch.setitem(suites.SUITES, "heldout_small", changed)
    assert fingerprint("heldout_small") != before


def test_a_description_names_the_version_of_the_data():
    described = {f.name: describe(f) for f in SUITES["heldout_small"]}
    assert described["digits_cnn"]["data_version"] == "1.0.0"
    assert "data_version" not in described["matrix_factorisation"]


def test_an_unknown_suite_gets_the_nearest():
    with pytest.raises(ValueError, match="did you mean heldout_small"):
        fingerprint("heldout_smal")


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_config_trains_on_held_out_data_or_tasks(config):
    text = config.read_text()
    forbidden = {"wine", "breast_cancer", "corpus", "matrix_factorisation", "denoising_autoencoder"}
    assert not {name for name in forbidden if name in text}
