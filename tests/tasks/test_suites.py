import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from meta_train.config.loading import load
from meta_train.run.build import build_tasks
from tasks import suites
from tasks.distributions import DISTRIBUTIONS
from tasks.distributions.base import Listed
from tasks.families.conv_language import ConvLanguageModel
from tasks.families.functions_nd import FunctionND
from tasks.families.mixer import MLPMixer
from tasks.families.mlp import MLPClassifier
from tasks.families.synthetic import Quadratic
from tasks.families.wrappers import Rescale
from tasks.suites import HELD_OUT, SUITES, Suite, describe, fingerprint
from tasks.traits import Traits, differences, traits

CONFIGS = Path(__file__).parents[2] / "configs"


def names(suite):
    return [family.name for family in SUITES[suite].families]


def preset(name):
    """All tasks of a config's file or of a list; of what is drawn, enough to show every kind."""
    if not name.endswith(".yaml"):
        distribution = DISTRIBUTIONS[name]
        count = len(distribution.families) if isinstance(distribution, Listed) else 500
        return distribution.sample(seed=0, n=count)
    return build_tasks(load(CONFIGS / name, [])).families


def too_near(trained, suite):
    """The held-out tasks that differ from one of the trained ones in fewer than two traits."""
    kinds = {traits(family): family for family in trained}.values()
    return [
        family.name
        for family in SUITES[suite].families
        if any(differences(family, other) < 2 for other in kinds)
    ]


PRESETS = [*sorted(path.name for path in CONFIGS.glob("*.yaml")), *sorted(DISTRIBUTIONS)]


def test_suites_are_as_large_as_promised():
    for suite in SUITES:
        assert len(set(names(suite))) == len(names(suite))
    assert len(names("heldout_small")) >= 10 and len(names("heldout_quick")) == 5
    assert set(names("heldout_quick")) < set(names("heldout_small")) < set(names("heldout_full"))
    assert len(names("heldout_full")) >= 18 and SUITES["heldout_full"].steps == 2000
    assert SUITES["far"].steps == 5000 and SUITES["heldout_small"].steps == 1000
    assert set(HELD_OUT) | {"selection", "seen"} == set(SUITES)


@pytest.mark.parametrize("name", ["hierarchical_rnn", "hierarchical_rnn_paper", "small_fc"])
def test_seen_tasks_are_trained_on(name):
    unnamed = [dataclasses.replace(family, name="") for family in preset(f"{name}.yaml")]
    for family in SUITES["seen"].families:
        assert dataclasses.replace(family, name="") in unnamed


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "sampled.yaml")) for name in PRESETS],
)
def test_held_out_tasks_differ_from_all_training_in_two_traits(name):
    trained = preset(name)
    assert {suite: too_near(trained, suite) for suite in HELD_OUT} == dict.fromkeys(HELD_OUT, [])


@pytest.mark.parametrize("suite", HELD_OUT)
def test_a_held_out_task_put_into_a_preset_is_found(suite):
    trained = preset("smoke.yaml")
    for family in SUITES[suite].families:
        assert family.name in too_near((*trained, family), suite)


def test_a_new_architecture_or_dataset_alone_is_not_enough():
    assert too_near([MLPMixer("digits")], "heldout_small") == ["shapes_mixer"]
    assert too_near([MLPClassifier(dataset="shapes")], "heldout_small") == [
        "shapes_mixer",
        "shapes_hinge",
    ]
    assert too_near([ConvLanguageModel()], "heldout_quick") == ["corpus_conv"]


def test_checkpoints_are_chosen_on_other_tasks():
    for suite in HELD_OUT:
        assert not too_near(SUITES["selection"].families, suite)


def test_checkpoints_are_chosen_on_many_kinds_of_tasks():
    families = SUITES["selection"].families
    kinds = {traits(family).architecture for family in families}
    assert len(kinds) >= 6 and "transformer language model" in kinds
    assert len({traits(family).loss for family in families}) >= 4
    assert min(getattr(family, "batch_size", 99) for family in families) <= 8
    assert SUITES["selection"].version == 2


def test_traits_have_names_where_a_family_says_nothing():
    assert traits(Quadratic()) == Traits("Quadratic", "generated", "Quadratic")
    one = traits(MLPClassifier(dataset="wine", loss="squared_hinge"))
    assert one == Traits("MLPClassifier", "wine", "squared_hinge")


def test_text_that_differs_between_pythons_is_not_held_out():
    for suite in HELD_OUT:
        assert all(traits(f).dataset != "documentation" for f in SUITES[suite].families)


def changed(monkeypatch, suite):
    """The fingerprint of heldout_small if it were `suite`."""
    with monkeypatch.context() as patched:
        patched.setitem(suites.SUITES, "heldout_small", suite)
        return fingerprint("heldout_small")


def test_fingerprints_tell_suites_apart_and_follow_every_setting(monkeypatch):
    prints = {fingerprint(suite) for suite in SUITES}
    assert len(prints) == len(SUITES) and all(len(text) == 64 for text in prints)
    suite = SUITES["heldout_small"]
    rest = suite.families[1:]
    others = [
        suite._replace(steps=999),
        suite._replace(version=suite.version + 1),
        suite._replace(families=(FunctionND("levy", dim=31), *rest)),
        suite._replace(families=rest),
    ]
    found = {changed(monkeypatch, other) for other in others}
    assert len(found) == 4 and fingerprint("heldout_small") not in found
    assert changed(monkeypatch, Suite(*suite)) == fingerprint("heldout_small")


def test_fingerprints_follow_the_data_and_families_within_families(monkeypatch):
    described = describe(Rescale(MLPClassifier(widths=(3, 4)), scale=2.0))
    assert described["kind"] == "Rescale" and described["scale"] == 2.0
    assert described["family"]["kind"] == "MLPClassifier"
    assert described["family"]["widths"] == [3, 4]
    assert described["family"]["data_version"] == "1.0.0"
    before = fingerprint("heldout_small")
    newer = dataclasses.replace(suites.DATASETS["corpus"], version="9.0.0")
    monkeypatch.setitem(suites.DATASETS, "corpus", newer)
    assert fingerprint("heldout_small") != before


def test_fingerprints_are_the_same_in_every_process():
    program = (
        "import json; from tasks.suites import *; print(json.dumps([*map(fingerprint, SUITES)]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert json.loads(done.stdout) == [fingerprint(suite) for suite in SUITES]


def test_a_description_names_the_version_of_the_data():
    described = {f.name: describe(f) for f in SUITES["heldout_small"].families}
    assert described["shapes_mixer"]["data_version"] == "1.0.0"
    assert "data_version" not in described["matrix_factorisation"]


def test_an_unknown_suite_gets_the_nearest():
    with pytest.raises(ValueError, match="did you mean heldout_small"):
        fingerprint("heldout_smal")
