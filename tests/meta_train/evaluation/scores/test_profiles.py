import numpy as np
import pytest

from meta_train.evaluation.scores import profiles


def test_run_profiles_count_what_is_above():
    values = np.array([[0.0, 1.0], [2.0, np.nan], [np.nan, np.nan]])
    found = profiles.run_profile(values, np.array([-1.0, 0.0, 1.5, 3.0]))
    assert found.part.tolist() == [1.0, pytest.approx(2 / 3), pytest.approx(1 / 3), 0.0]
    assert (found.low <= found.part).all() and (found.part <= found.high).all()
    assert np.isnan(profiles.run_profile(np.full((2, 2), np.nan), np.array([1.0])).part).all()


def test_time_ratios_take_the_median_seed_and_keep_misses():
    never, none = np.inf, np.nan
    times = np.array(
        [
            [[10, 20, 90], [never, never, 5], [none, none, none], [never, never, never]],
            [[40, 40, 40], [30, 30, 30], [none, none, none], [never, never, never]],
        ]
    )
    assert profiles.time_ratios(times).tolist() == [[1.0, never, never], [2.0, 1.0, never]]


def test_the_area_is_that_under_the_profile():
    ratios = np.array([[1.0, 2.5, 7.0, np.inf], [1.0, 1.0, 1.0, 1.0]])
    at = np.linspace(1.0, 4.0, 30_001)
    drawn = profiles.task_profile(ratios, at)
    assert drawn[0, [0, 14_999, 15_001, -1]].tolist() == [0.25, 0.25, 0.5, 0.5]
    assert profiles.area(ratios) == pytest.approx([(1.0 + 0.5) / 4, 1.0])
    assert profiles.area(ratios) == pytest.approx(np.trapezoid(drawn, at) / 3.0, abs=1e-3)
    assert np.isnan(profiles.area(np.zeros((2, 0)))).all()
