from __future__ import annotations

import re
from dataclasses import replace

import pytest

from dashboard import draw_front, front_data, front_page
from storage import MeasurementKind, Store, StudyState, TrialState
from storage.rows import StudyRecord
from tests.storage.records import measurement, new_study
from tests.storage.test_results import TRIALS, trial


def record(**changes) -> StudyRecord:
    return StudyRecord(
        **vars(new_study(**changes)),
        id=1,
        state=StudyState.FINISHED,
        created_at=None,
        sampler_attrs={},
        error=None,
        owner=None,
    )


@pytest.fixture
def data():
    trials = [replace(trial, confirmation=measurement(28)) if trial.number == 1 else trial for trial in TRIALS]
    return front_data(record(), trials, measurement(38))


def test_the_data_tell_front_others_and_confirmed_apart(data):
    assert [point.number for point in data.front] == [0, 1, 3]
    assert [point.number for point in data.others] == [2]
    assert [(point.number, point.estimate.value) for point in data.confirmed] == [(1, 70.0)]
    assert data.dense.estimate.value == 95.0
    assert data.budget == (None, 3.0)


def test_the_picture_shows_every_point_with_its_interval(data):
    figure = draw_front(data)
    traces = {trace.name: trace for trace in figure.data if trace.name}
    front = traces["front, search images"]
    assert list(front.x) == [2.0, 2.5, 3.0]
    assert list(front.y) == [50.0, 75.0, 87.5]
    highs = [y + above for y, above in zip(front.y, front.error_y.array, strict=True)]
    assert highs == [pytest.approx(point.estimate.high) for point in data.front]
    assert [number for (number,) in front.customdata] == [0, 1, 3]
    assert list(traces["front, unseen images"].y) == [70.0]
    assert list(traces["dense model"].y) == [95.0]


def test_what_is_over_the_budget_is_greyed_and_counted():
    over = [replace(TRIALS[3], number=7, state=TrialState.INFEASIBLE, gflops=3.4)]
    data = front_data(record(), [*TRIALS, *over], None)
    assert [point.number for point in data.infeasible] == [7]
    assert 7 not in {point.number for point in data.front + data.others}
    (trace,) = (trace for trace in draw_front(data).data if trace.name == "over the budget (1)")
    assert list(trace.x) == [3.4]


def test_the_budget_is_drawn_at_each_of_its_ends(data):
    def lines(figure):
        return [shape.x0 for shape in figure.layout.shapes]

    assert lines(draw_front(data)) == [3.0]
    assert lines(draw_front(replace(data, budget=(2.0, 3.0)))) == [2.0, 3.0]


def test_a_study_without_trials_still_makes_a_picture():
    figure = draw_front(front_data(record(), [], None))
    assert all(not trace.x for trace in figure.data)


def test_the_page_stands_alone(data):
    page = front_page(draw_front(data))
    assert page.lower().startswith("<!doctype html>")
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']https?:", page)
    assert "trial 3, zero_tprune" in page


def test_a_name_with_markup_is_shown_as_text():
    page = front_page(draw_front(front_data(record(name="<script>alert(1)</script>"), TRIALS, None)))
    assert "<script>alert(1)</script>" not in page


def test_what_a_notebook_holds_can_be_plotted(tmp_path):
    from dashboard import plot_front
    from storage.remembered import RememberedStudy

    with Store(f"sqlite:///{tmp_path}/x.db", create=True) as store:
        made = store.create_study(new_study())
        store.add_measurement(made.id, None, MeasurementKind.SEARCH, measurement(38))
        assert plot_front(RememberedStudy(store, made)).layout.title.text.startswith("first")


# Several methods

ROWS = [  # number, method, GFLOPs, images right: both methods have points that the other does not beat
    (0, "zero_tprune", 2.0, 20),
    (1, "random_drop", 2.2, 30),
    (2, "zero_tprune", 2.5, 28),
    (3, "random_drop", 2.8, 25),
    (4, "zero_tprune", 3.0, 36),
]


@pytest.fixture
def rivals():
    return [trial(number, gflops, n_right, method=method) for number, method, gflops, n_right in ROWS]


def both(**changes) -> StudyRecord:
    return record(method="zero_tprune+random_drop", **changes)


def traces_of(figure, method: str) -> list:
    return [trace for trace in figure.data if trace.legendgroup == method]


def test_of_several_methods_one_front_holds_what_nothing_beats(rivals):
    data = front_data(both(), rivals, None)
    assert [(point.number, point.method) for point in data.front] == [
        (0, "zero_tprune"),
        (1, "random_drop"),
        (4, "zero_tprune"),
    ]


def test_by_method_each_has_the_front_that_it_would_have_alone(rivals):
    data = front_data(both(), rivals, None, by_method=True)
    for method, numbers in {"zero_tprune": [0, 2, 4], "random_drop": [1]}.items():
        assert [point.number for point in data.front if point.method == method] == numbers
        alone = front_data(record(method=method), [each for each in rivals if each.method == method], None)
        assert [point.number for point in alone.front] == numbers
    assert [point.number for point in data.others] == [3]


def test_methods_are_told_apart_by_colour_and_by_symbol(rivals):
    confirmed = [replace(each, confirmation=measurement(25)) for each in rivals]
    figure = draw_front(front_data(both(), confirmed, measurement(38)))
    looks = {}
    for method in ("zero_tprune", "random_drop"):
        markers = [trace.marker for trace in traces_of(figure, method) if trace.mode == "markers"]
        (color,) = {marker.color for marker in markers}
        looks[method] = color, {marker.symbol.removesuffix("-open") for marker in markers}
        in_legend = [trace for trace in traces_of(figure, method) if trace.showlegend is not False]
        assert [trace.name for trace in in_legend] == [method]
    (one, one_symbols), (two, two_symbols) = looks.values()
    assert one != two
    assert not one_symbols & two_symbols
    assert {"open: on unseen images", "faint: measured, not on the front", "dense model"} <= {
        trace.name for trace in figure.data
    }


def test_a_method_without_a_point_on_the_front_is_in_the_legend_too(rivals):
    figure = draw_front(front_data(both(), [each for each in rivals if each.number in (1, 2)], None))
    assert [trace.name for trace in traces_of(figure, "zero_tprune") if trace.showlegend is not False] == [
        "zero_tprune"
    ]


def test_a_line_joins_one_front_and_by_method_each_methods(rivals):
    def lines(**changes):
        figure = draw_front(front_data(both(), rivals, None, **changes))
        return [list(trace.x) for trace in figure.data if trace.mode == "lines"]

    assert lines() == [[2.0, 2.2, 3.0]]
    assert lines(by_method=True) == [[2.0, 2.5, 3.0], [2.2]]


def test_a_method_looks_the_same_whatever_it_is_searched_with(rivals):
    def color(methods):
        figure = draw_front(front_data(record(method=methods), rivals, None))
        return traces_of(figure, "random_drop")[0].marker.color

    assert color("zero_tprune+random_drop") == color("random_drop+zero_tprune")


def test_more_methods_than_colours_are_still_drawn(rivals):
    names = [f"method_{number}" for number in range(12)]
    trials = [replace(rivals[0], method=name, number=number) for number, name in enumerate(names)]
    figure = draw_front(front_data(record(method="+".join(names)), trials, None, by_method=True))
    assert {trace.name for trace in figure.data} >= set(names)


def test_by_method_one_method_looks_as_ever():
    plain, split = (draw_front(front_data(record(), TRIALS, None, by_method=by)) for by in (False, True))
    assert plain == split
