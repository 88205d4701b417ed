"""Which optimizers are the lines of a table, and over which rates baselines are tuned."""

import jax
import pytest

from learned_opt import io
from learned_opt.anchors.relative_adam import RelativeAdam
from learned_opt.learned.hierarchical_rnn import HierarchicalRNN
from learned_opt.registry import HAND_DESIGNED
from meta_train.evaluation.entries import chosen_entries, grid, short_name, standard_baselines

RULE = HierarchicalRNN(RelativeAdam(), level_sizes=(2, 2, 2), use_relative_lr=False)
COMMON = ("adam", "adamw", "soap", "muon", "schedule_free_adamw")


@pytest.mark.parametrize("schedule", ["", "+warmup_cosine"])
@pytest.mark.parametrize("name", COMMON)
def test_what_people_use_is_tuned_over_fifteen_half_decades(name, schedule):
    (entry,) = standard_baselines([name + schedule])
    rates = [trial["learning_rate"] for trial in entry.trials]
    assert entry.name == f"{name}{schedule} (tuned)"
    assert len(rates) == 15
    assert all(3.1 < high / low < 3.2 for low, high in zip(rates, rates[1:], strict=False))
    assert rates[0] < HAND_DESIGNED[name].learning_rate / 100
    assert rates[-1] > 30 * HAND_DESIGNED[name].learning_rate


def test_others_get_seven_rates_around_their_own():
    assert grid("lion") == pytest.approx([3e-4 * 10 ** (k / 2) for k in range(-3, 4)], rel=1e-2)
    assert grid("sgd") == grid("rmsprop") and len(grid("sgd")) == 7


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


def test_a_hand_designed_optimizer_may_come_with_hyperparameters():
    (entry,) = chosen_entries(["relative_soap:anytime=true:weight_decay=0.1"], [])
    assert entry.name == "relative_soap:anytime=true:weight_decay=0.1"
    assert entry.optimizer.defaults["anytime"] is True
    assert entry.optimizer.defaults["weight_decay"] == 0.1
    with pytest.raises(ValueError, match="weight_decy.*did you mean weight_decay"):
        chosen_entries(["relative_soap:weight_decy=0.1"], [])
    with pytest.raises(ValueError, match="'anytime' is not allowed; it must be key=value"):
        chosen_entries(["relative_soap:anytime"], [])
