"""What a search may draw of DToP."""

from __future__ import annotations

import pytest

from spaces import (
    Budget,
    BudgetUnsatisfiable,
    DToP,
    DToPSpace,
    InvalidInput,
    Problem,
    UnsupportedModel,
    dense_cost,
    parse_space,
)
from spaces.domains import parse_setting
from spaces.problem import TARGET
from tests.spaces.test_layered_space import draw
from tests.tiny import DEIT_SMALL, SEGVIT_BASE


def test_the_paper_preset_searches_where_how_sure_and_how_much_context():
    names = [each.name for each in parse_space("dtop").parameters(SEGVIT_BASE)]
    assert names == ["after_6", "after_8", "doubt", "k"]


def test_a_draw_becomes_the_layout_it_says():
    space = parse_space("dtop", "full")
    drawn = {"after_6": False, "after_8": True, "doubt_6": 0.5, "doubt_8": 0.25, "k": 3, "rule": "topk", "ratio": 0.2}
    layout = space.build(drawn | {"merge": "exit_stage"}, SEGVIT_BASE)
    assert layout == DToP(after=(8,), p0=(0.75,), k=3, ratio=0.2, merge="exit_stage")


def test_one_p0_serves_all_heads_or_each_has_its_own():
    space = DToPSpace(after=(6, 8), p0_by_head={"kind": "choice", "values": (True, False)}, k=5)
    drawn = {"doubt": 0.25, "doubt_6": 0.5, "doubt_8": 0.125}
    assert {each.name for each in space.parameters(SEGVIT_BASE)} == {"p0_by_head", *drawn}
    assert space.build(drawn | {"p0_by_head": False}, SEGVIT_BASE).p0 == (0.75, 0.75)
    assert space.build(drawn | {"p0_by_head": True}, SEGVIT_BASE).p0 == (0.5, 0.875)


def test_grading_nowhere_may_be_drawn():
    layout = parse_space("dtop").build({"after_6": False, "after_8": False, "doubt": 0.2, "k": 5}, SEGVIT_BASE)
    assert layout.cost(SEGVIT_BASE) == dense_cost(SEGVIT_BASE)


def test_what_may_be_doubted_spans_the_range_of_p0_on_a_log_scale():
    (doubt,) = parse_space("dtop", "paper", {"after": [8], "p0": parse_setting("0.5:0.999"), "k": 5}).parameters(
        SEGVIT_BASE
    )
    assert (doubt.domain.low, doubt.domain.high, doubt.domain.log) == (0.001, 0.5, True)


def test_a_search_begins_with_each_head_alone_and_all_from_unsure_to_sure():
    space = parse_space("dtop")
    drawn = {"after_6": False, "after_8": False, "doubt": 0.1, "k": 5}
    layouts = [space.build(drawn | opening, SEGVIT_BASE) for opening in space.openings(SEGVIT_BASE)]
    assert [layout.after for layout in layouts] == 3 * [(6,), (8,), (6, 8)]
    sureness = [layout.p0[0] for layout in layouts]
    assert sureness == sorted(sureness)
    assert 0.6 < sureness[0] < sureness[-1] < 0.999
    assert parse_space("dtop", "paper", {"p0": 0.9}).openings(SEGVIT_BASE) == ()


def test_a_draw_misses_a_budget_only_if_it_certainly_does():
    space = parse_space("dtop")
    drawn = {"after_6": True, "after_8": False, "doubt": 0.1, "k": 5}
    layout = space.build(drawn, SEGVIT_BASE)
    assert space.drawn_gflops(drawn, SEGVIT_BASE) == layout.least_cost(SEGVIT_BASE).gflops
    assert Problem(space, SEGVIT_BASE, Budget.parse("80%", 107.3)).propose(drawn).drawn_gflops < 0.8 * 107.3


@pytest.mark.parametrize("preset", ["paper", "full"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 1.0])
def test_no_draw_becomes_a_layout_that_certainly_costs_too_much(preset, share):
    space = parse_space("dtop", preset)
    least, most = Problem(space, SEGVIT_BASE, Budget(None, 60.0)).cost_range()
    target = least + share * (most - least)
    for seed in range(40):
        drawn = draw(space, SEGVIT_BASE, seed)
        layout, as_drawn = space.fit(drawn, SEGVIT_BASE, target), space.build(drawn, SEGVIT_BASE)
        assert layout.least_cost(SEGVIT_BASE).gflops <= target
        if as_drawn.least_cost(SEGVIT_BASE).gflops <= target:
            assert layout == as_drawn
        values = space.values_of(layout, drawn, SEGVIT_BASE)
        assert space.build(values, SEGVIT_BASE) == layout
        assert values.keys() == drawn.keys()


def test_a_target_below_the_least_is_refused():
    space = parse_space("dtop")
    with pytest.raises(BudgetUnsatisfiable, match="no layout of this space costs as little as 1 GFLOPs"):
        space.fit(draw(space, SEGVIT_BASE), SEGVIT_BASE, 1.0)


def test_no_target_is_drawn_for_layouts_that_cannot_be_brought_onto_one():
    problem = Problem(parse_space("dtop"), SEGVIT_BASE, Budget.parse("60%:100%", 107.3))
    assert TARGET not in {each.name for each in problem.parameters()}


@pytest.mark.parametrize("preset", ["paper", "full"])
def test_the_extremes_hold_the_least_and_the_most_of_all(preset):
    cheapest, dearest = parse_space("dtop", preset).extremes(SEGVIT_BASE)
    assert cheapest.least_cost(SEGVIT_BASE).macs == DToP(after=(6,), rule="remove").least_cost(SEGVIT_BASE).macs
    assert dearest.cost(SEGVIT_BASE).macs == DToP(after=(6, 8)).cost(SEGVIT_BASE).macs


def test_settings_are_fixed_by_giving_them():
    space = parse_space("dtop", "paper", {"after": [8], "p0": 0.9, "k": 5})
    assert space.parameters(SEGVIT_BASE) == ()
    assert space.build({}, SEGVIT_BASE) == DToP(after=(8,), p0=0.9)


def test_heads_that_are_missing_are_named():
    with pytest.raises(InvalidInput, match="no head there"):
        DToPSpace(after=(5,)).parameters(SEGVIT_BASE)


def test_a_classifier_is_refused():
    with pytest.raises(UnsupportedModel, match="this model has none"):
        parse_space("dtop").parameters(DEIT_SMALL)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"p0": "0.5:1.5"}, "p0 must be from 0 to 1"),
        ({"p0": [0.9, 0.8]}, "a list p0 needs the heads that it is for"),
        ({"p0": "0.6:1.0"}, "p0 must be a range below 1, at which a head finishes nothing"),
        ({"k": -1}, "k must be from 0"),
    ],
)
def test_settings_out_of_bounds_are_refused(settings, problem):
    values = {name: parse_setting(value) if isinstance(value, str) else value for name, value in settings.items()}
    with pytest.raises(InvalidInput, match=problem):
        parse_space("dtop", "paper", values)
