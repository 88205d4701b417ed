"""Phases and new samples as stages of a config."""

from pathlib import Path

import pytest

from meta_train.config.errors import ConfigError
from meta_train.config.loading import load
from meta_train.config.stages import stages

ROOT = Path(__file__).parents[3]
SAMPLED = "tasks=[{kind: sampled, distribution: literature_paper, count: 2, first: 1}]"


def staged(*overrides):
    return stages(load(ROOT / "configs" / "smoke.yaml", overrides))


def test_without_phases_a_run_is_one_stage():
    (only,) = staged()
    assert only.start == 0 and only.config.phases == ()


def test_a_phase_changes_its_keys_and_keeps_those_before():
    first, second, third = staged(
        "phases=[{at: 4, horizon: {kind: fixed, steps: 7}}, {at: 9, estimator: {kind: backprop, "
        "length: 3}}]"
    )
    assert [first.start, second.start, third.start] == [0, 4, 9]
    assert first.config.horizon.kind == "log_uniform"
    assert second.config.horizon.steps == third.config.horizon.steps == 7
    assert second.config.estimator == first.config.estimator
    assert third.config.estimator.length == 3


def test_a_block_of_a_phase_keeps_what_it_leaves_out_while_the_kind_stays():
    first, second, third = (
        stage.config.estimator
        for stage in staged(
            "estimator={kind: pes, length: 5, std: 0.02}",
            "phases=[{at: 4, estimator: {std: 0.5}}, {at: 9, estimator: {kind: es, length: 7}}]",
        )
    )
    assert second == first.model_copy(update={"std": 0.5})
    assert (third.kind, third.length) == ("es", 7) and third.std not in (0.02, 0.5)


def test_new_samples_come_at_multiples_inside_a_phase():
    found = staged(SAMPLED, "resample_every=5", "phases=[{at: 7, resample_every: 2}]")
    assert [stage.start for stage in found] == [0, 5, 7, 8, 10]
    assert [stage.config.tasks[0].first for stage in found] == [1, 3, 3, 5, 7]
    drawn = [
        {family.name for family in stage.config.tasks[0].build().families()} for stage in found
    ]
    assert all(len(names) == 2 for names in drawn)
    assert len(set.union(*drawn)) == 8


def test_a_phase_with_tasks_of_its_own_begins_with_their_first():
    new = "tasks: [{kind: sampled, distribution: taskset, count: 1}]"
    found = staged(SAMPLED, "resample_every=4", f"phases=[{{at: 6, {new}}}]")
    assert [stage.start for stage in found] == [0, 4, 6, 8]
    assert [stage.config.tasks[0].first for stage in found] == [1, 3, 0, 1]


def test_only_sampled_tasks_are_sampled_anew():
    assert len(staged("resample_every=2")) == 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("phases=[{at: 0}]", "phases.0.at: 0 is not allowed; it must be at least 1"),
        ("phases=[{at: 5}, {at: 5}]", "phases.1.at: 5 must be above 5, the one before"),
        ("phases=[{at: 5, horizn: 3}]", "phases.0.horizn: unknown key; did you mean horizon?"),
        (
            "phases=[{at: 5, horizon: {kind: fixed, steps: 0}}]",
            "phases.0.horizon.steps: 0 must be between 1 and",
        ),
        (
            "phases=[{at: 5, tasks: [{kind: quadratic}, {kind: quadratic}]}]",
            "phases.0.tasks.1: the same name, 'quadratic', as tasks.0",
        ),
        ("phases=[{at: 5, horizon: {kind: fixed}}]", "phases.0.horizon.steps: missing"),
        ("phases=[3]", "phases.0: "),
    ],
)
def test_mistakes_in_phases_are_found_at_the_door(override, words):
    with pytest.raises(ConfigError) as caught:
        staged(override)
    assert words in str(caught.value)
