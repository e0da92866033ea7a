from __future__ import annotations

import pytest

from spaces import parse_space
from spaces.domains import IntRange
from spaces.layer_values import openings
from tests.spaces.test_layered_space import SPACES, draw
from tests.tiny import DEIT_SMALL


@pytest.mark.parametrize("space", SPACES.values(), ids=map("-".join, SPACES))
@pytest.mark.parametrize("seed", range(8))
def test_the_values_of_a_repaired_layout_draw_that_layout_without_repair(space, seed):
    drawn = draw(space, seed=seed)
    layout = space.fit(drawn, DEIT_SMALL, 3.0)
    values = space.values_of(layout, drawn, DEIT_SMALL)
    again = space.build(values, DEIT_SMALL)
    assert again.digest(DEIT_SMALL) == layout.digest(DEIT_SMALL)
    assert values.keys() == drawn.keys()


def test_values_of_slots_that_do_not_count_stay_as_they_were_drawn():
    space = SPACES["zero_tprune", "paper"]
    drawn = draw(space, seed=2) | {"n_layers": 3}
    values = space.values_of(space.build(drawn, DEIT_SMALL), drawn, DEIT_SMALL)
    changed = {name for name in drawn if values[name] != drawn[name]}
    assert changed <= {"after_1", "after_2", "after_3"}


@pytest.mark.parametrize("space", SPACES.values(), ids=map("-".join, SPACES))
def test_openings_begin_to_prune_ever_later_and_end_at_the_last_place(space):
    parameters = {each.name: each.domain for each in space.parameters(DEIT_SMALL)}
    starts = []
    for opening in space.openings(DEIT_SMALL):
        assert opening.keys() <= parameters.keys()
        assert all(parameters[name].low <= value <= parameters[name].high for name, value in opening.items())
        layout = space.build(draw(space) | opening, DEIT_SMALL)
        starts.append(layout.places[0])
        assert layout.places[-1] == parameters[f"{space.places_name}_1"].high
        assert len(set(layout.keep_rate)) == 1
    assert len(starts) == 4
    assert starts == sorted(set(starts))


def test_fixed_places_leave_nothing_to_open_with():
    space = parse_space("random_drop", settings={"after": [3, 6, 9]})
    assert space.openings(DEIT_SMALL) == ()


def test_openings_that_come_to_the_same_places_are_one():
    space = parse_space("random_drop", settings={"n_layers": 3, "after": IntRange(low=5, high=7)})
    assert [opening["after_1"] for opening in openings(space.parameters(DEIT_SMALL), "after", "keep_rate")] == [5]
