import pytest

from learned_opt.registry import HAND_DESIGNED
from meta_train.evaluation.entries import grid, standard_baselines

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
