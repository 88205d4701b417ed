import dataclasses
import subprocess
import sys

import pytest

from tasks.cost import Limit, cost
from tasks.distributions.base import Drawn, Listed
from tasks.families.synthetic import Function2D, Quadratic

LISTED = Listed("listed", tuple(Quadratic(dim=d, name=f"quadratic_{d}") for d in range(1, 9)))
DRAWN = Drawn(
    "drawn",
    (
        ("quadratic", 3.0, lambda draws: Quadratic(dim=draws.log_int(1, 50))),
        ("booth", 1.0, lambda draws: Function2D("booth")),
    ),
)


@pytest.mark.parametrize("distribution", [LISTED, DRAWN], ids=lambda d: d.name)
def test_fewer_are_the_beginning_of_more_and_seeds_differ(distribution):
    families = distribution.sample(0, 6)
    assert families == distribution.sample(0, 6) and families[:3] == distribution.sample(0, 3)
    assert len({family.name for family in families}) == 6
    assert families != distribution.sample(1, 6)


def test_other_processes_draw_the_same(tmp_path):
    code = (
        "from tasks.distributions.base import Drawn\n"
        "from tasks.families.synthetic import Quadratic\n"
        "draw = lambda draws: Quadratic(dim=draws.log_int(1, 50), noise=draws.uniform())\n"
        "print(Drawn('d', (('quadratic', 1.0, draw),)).sample(5, 20))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] and runs[0].count("Quadratic") == 20


def test_names_tell_where_a_task_came_from():
    for index, family in enumerate(DRAWN.sample(7, 4)):
        kind = "booth" if isinstance(family, Function2D) else "quadratic"
        assert family.name == f"drawn_7_{index}_{kind}"


def test_a_limit_draws_again_and_leaves_what_is_within_it_alone():
    limit = Limit(parameters=10)
    free, within = DRAWN.sample(0, 30), DRAWN.sample(0, 30, limit)
    assert all(cost(family).parameters <= 10 for family in within)
    assert any(cost(family).parameters > 10 for family in free)
    for before, after in zip(free, within, strict=True):
        assert after == before or cost(before).parameters > 10
    assert [family.dim for family in LISTED.sample(0, 2, Limit(parameters=2))] in ([1, 2], [2, 1])


def test_what_cannot_be_had_is_refused():
    with pytest.raises(ValueError, match="count: 9 is not allowed; listed has 8 tasks"):
        LISTED.sample(0, 9)
    with pytest.raises(ValueError, match="limit: .*none of 512 tasks drawn from drawn"):
        DRAWN.sample(0, 1, Limit(parameters=1, operations=1))


def test_a_limit_says_what_is_above_it():
    family = Quadratic(dim=20)
    operations = cost(family).operations
    assert Limit().admits(family) and Limit(20, operations).admits(family)
    assert Limit(parameters=19).excess(family) == "20 parameters are above the limit of 19"
    assert f"{operations:,} operations a step" in Limit(operations=10).excess(family)


def test_every_field_of_a_drawn_task_is_static():
    for family in DRAWN.sample(0, 5):
        assert hash(family) == hash(dataclasses.replace(family))
