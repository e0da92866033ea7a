from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.pareto import front, hypervolume

points = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=25)


def dominates(one, two):
    return one[0] <= two[0] and one[1] >= two[1] and one != two


@given(points)
def test_the_front_is_what_nothing_dominates(candidates):
    found = front(candidates)
    expected = {p for p in candidates if not any(dominates(other, p) for other in candidates)}
    assert {candidates[index] for index in found} == expected
    assert len(found) == len(expected)
    assert [candidates[index][0] for index in found] == sorted(candidates[index][0] for index in found)


def test_of_equal_points_the_first_is_on_the_front():
    assert front([(1.0, 5.0), (1.0, 5.0)]) == [0]


@given(points)
def test_the_hypervolume_is_the_share_of_cells_that_are_dominated(candidates):
    cells = [(x + 0.5, y + 0.5) for x in range(9) for y in range(-1, 8)]
    covered = sum(any(p[0] <= x and p[1] >= y for p in candidates) for x, y in cells)
    assert hypervolume(candidates, reference=(9, -1)) == pytest.approx(covered)


@given(points, st.tuples(st.integers(0, 8), st.integers(0, 8)))
def test_another_point_never_shrinks_the_hypervolume(candidates, another):
    assert hypervolume([*candidates, another], (9, -1)) >= hypervolume(candidates, (9, -1))


def test_points_beyond_the_reference_count_nothing():
    assert hypervolume([(5.0, 80.0), (1.0, 40.0)], reference=(4.0, 50.0)) == 0
    assert hypervolume([], reference=(4.0, 50.0)) == 0
    assert not np.isnan(hypervolume([(1.0, 60.0)], (4.0, 50.0)))
