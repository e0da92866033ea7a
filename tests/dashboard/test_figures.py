from __future__ import annotations

import re
from dataclasses import replace

import pytest

from dashboard import draw_front, front_data, front_page
from storage import MeasurementKind, Store, StudyState
from storage.rows import StudyRecord
from tests.storage.records import measurement, new_study
from tests.storage.test_results import TRIALS


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
    assert data.budget_gflops == (None, 3.0)


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


def test_the_budget_is_drawn_at_each_of_its_ends(data):
    def lines(figure):
        return [shape.x0 for shape in figure.layout.shapes]

    assert lines(draw_front(data)) == [3.0]
    assert lines(draw_front(replace(data, budget_gflops=(2.0, 3.0)))) == [2.0, 3.0]


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
