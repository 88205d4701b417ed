"""The panel of drawn tasks, from sources small enough to know."""

from collections import Counter

import pytest

from tasks.cost import Limit, cost
from tasks.distributions import panel as module
from tasks.distributions.base import Drawn
from tasks.distributions.panel import SOURCES, panel
from tasks.families.noisy_quadratics import RandomQuadratic
from tasks.families.synthetic import Function2D, Quadratic

FIRST = Drawn(
    "first",
    (
        ("quadratic", 3.0, lambda draws: Quadratic(dim=draws.integer(1, 40))),
        ("booth", 1.0, lambda draws: Function2D("booth")),
    ),
)
SECOND = Drawn(
    "second", (("random", 1.0, lambda draws: RandomQuadratic(dim=draws.integer(2, 40))),)
)
LIMIT = Limit(parameters=20)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(module, "SOURCES", (FIRST, SECOND))


def test_sources_take_turns_within_the_limit(small):
    found = panel(3, 8, LIMIT, most=8)
    assert [family.name.partition("_")[0] for family in found] == ["first", "second"] * 4
    assert all(cost(family).parameters <= 20 for family in found)
    assert any(cost(family).parameters > 20 for family in FIRST.sample(3, 20))


def test_no_class_has_more_than_its_share(small):
    free = Counter(map(type, panel(3, 7, LIMIT, most=7)))
    assert free[Quadratic] > 2 and free[RandomQuadratic] == 3
    assert Counter(map(type, panel(3, 7, LIMIT, most=3)))[Quadratic] <= 3
    found = Counter(map(type, panel(3, 3, LIMIT, most=1)))
    assert found == {Quadratic: 1, Function2D: 1, RandomQuadratic: 1}


def test_fewer_are_the_beginning_of_more_and_seeds_differ(small):
    found = panel(3, 8, LIMIT, most=8)
    assert found[:5] == panel(3, 5, LIMIT, most=8) and found != panel(4, 8, LIMIT, most=8)
    assert len({family.name for family in found}) == 8


def test_what_cannot_be_had_is_refused(small, monkeypatch):
    monkeypatch.setattr(module, "DRAWS", 50)
    with pytest.raises(ValueError, match="count: no further task within .* among 50 draws"):
        panel(3, 4, LIMIT, most=1)


def test_the_panel_is_of_the_distributions_with_networks():
    assert [source.name for source in SOURCES] == ["taskset", "velo", "lhopt"]
